"""Rule: the tokens that changed on a line change alike on other lines, where the same tokens stand.

Replacements, deletions and insertions of a few tokens: a literal, a keyword, an argument, a
decorator, a part of a signature. An insertion needs equal tokens on both sides of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fim_server.documents.alignment import opcodes
from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import KEYWORDS, NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import ChangedLine, changed_pairs, joined, pieces

_MAX_CONTEXT = 6
"""Tokens on each side that are compared."""

_MAX_CHANGES = 3
"""Changes of a line; with more, the line was rewritten."""

_MIN_CONTEXT = {"inserted": 3, "punctuation": 4, "keyword": 2, "word": 2, "removed": 1}
"""Fewer equal tokens around a change of this kind say nothing: hardly one draft in a hundred was
right."""


@dataclass(frozen=True, slots=True)
class _Change:
    """The tokens `old` of a line became `new`, with the tokens before and after them, the nearest
    first. White space at either end of the change is part of it."""

    line: int
    old: str
    new: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    gap: str = ""
    """White space right before the change."""


def replacements(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The other places of the tokens that a hunk changed."""
    lines = changed_pairs(hunk)
    if len(hunk.old) != len(hunk.new) and hunk.old and hunk.new:
        lines.append(joined(hunk))  # what changed where lines were wrapped as well
    for line in lines:
        changes = _changes(line)
        for change in changes if len(changes) <= _MAX_CHANGES else ():
            yield from _elsewhere(page, hunk, change, len(changes))


def _changes(line: ChangedLine) -> list[_Change]:
    number, old_line, new_line = line
    old, new = pieces(old_line), pieces(new_line)
    found = []
    for tag, low, high, from_, to in opcodes(old, new):
        if tag == "equal":
            continue
        before = [token for token in reversed(old[:low]) if not token.isspace()]
        after = [token for token in old[high:] if not token.isspace()]
        found.append(
            _Change(
                number,
                "".join(old[low:high]),
                "".join(new[from_:to]),
                tuple(before[:_MAX_CONTEXT]),
                tuple(after[:_MAX_CONTEXT]),
                old[low - 1] if low and old[low - 1].isspace() else "",
            )
        )
    return found


def _elsewhere(page: Page, hunk: Hunk, change: _Change, count: int) -> Iterator[Draft]:
    kind = _kind(change)
    if kind is None:
        return
    own = page.has(hunk)
    tokens = len([piece for piece in pieces(change.old) if not piece.isspace()])
    pattern = _pattern(change)
    reason = (
        f"still has {change.old.strip()}" if change.old.strip() else "looks like a changed line"
    )
    for number, line in page.lines.items():
        if own and number == change.line:
            continue
        for match in pattern.finditer(line):
            before = _shared(_spaceless(line[: match.start()])[::-1], change.before)
            after = _shared(_spaceless(line[match.end() :]), change.after)
            if before + after < _MIN_CONTEXT.get(kind, 0):
                continue
            if len(change.new) > len(change.old) and line.startswith(change.new, match.start()):
                continue  # it has the change already
            whole = len(change.before) == before and len(change.after) == after
            if kind == "inserted" and not whole and not (before and after):
                continue
            signs = Signs(
                f"{kind}_alike" if whole else kind,
                _likeness(change, before, after),
                tokens,
                before + after,
                changes=count,
                text=page.is_text(number, match.start()),
            )
            start = match.end() if not change.before and kind == "inserted" else match.start()
            yield Draft((LineEdit(number, start, match.end(), change.new),), reason, signs)


def _kind(change: _Change) -> str | None:
    """What a change is, for its weights; None for one that cannot be told from others."""
    old, new = change.old.strip(), change.new.strip()
    if not old and not new:
        return None
    if not old:
        return "inserted"
    if NAME.fullmatch(old):
        if NAME.fullmatch(new):
            return "keyword" if old in KEYWORDS else "name"
        return "word"
    if not re.search(r"\w", old):
        return "punctuation"
    return "replaced" if new else "removed"


def _pattern(change: _Change) -> re.Pattern[str]:
    if not change.old.strip():
        left = re.escape("".join((*change.before[:1], change.gap)))
        return re.compile(rf"(?<={left}){re.escape(change.old)}" if change.before else r"^\s*")
    start = r"(?<!\w)" if change.old[0].isalnum() or change.old[0] == "_" else ""
    end = r"(?!\w)" if change.old[-1].isalnum() or change.old[-1] == "_" else ""
    return re.compile(rf"{start}{re.escape(change.old)}{end}")


def _likeness(change: _Change, before: int, after: int) -> float:
    size = len(change.before) + len(change.after)
    return (before + after) / size if size else 1.0


def _spaceless(text: str) -> list[str]:
    return [piece for piece in pieces(text) if not piece.isspace()]


def _shared(tokens: Sequence[str], context: Sequence[str]) -> int:
    pairs = enumerate(zip(tokens, context, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(tokens), len(context)))
