"""Rule: after a value was given a name, the name takes its place; after a name was removed, its
value does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import count_tokens
from fim_server.edits.rules.code_tokens import names
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page

_ASSIGNED = re.compile(
    r"\s*(?:(?:const|let|var|local|final|auto|static|pub|mut)\s+)*([^\W\d]\w*)"
    r"(?:\s*:\s*[^=]+?)?\s*:?=\s*([^=~].*?)[;,]?\s*\Z"
)
_MIN_TOKENS = 3
"""Of a value that a name takes the place of; shorter ones stand anywhere."""

_MAX_LINES = 200
"""Lines below that are read, where the syntax knows no definition around the hunk."""


def extracted_values(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The places of the values that a hunk of the page gave a name, and of the names it removed."""
    if not page.has(hunk):
        return
    old, new = _assigned(hunk.old), _assigned(hunk.new)
    for name, value in new.items():
        if name not in old and count_tokens([value]) >= _MIN_TOKENS:
            yield from _replaced(page, hunk, value, name, "extracted")
    kept = names(hunk.new)
    for name, value in old.items():
        if name not in kept and _is_one_value(value):
            yield from _replaced(page, hunk, name, value, "inlined")


def _assigned(lines: Sequence[str]) -> dict[str, str]:
    """The names that lines assign, with their values."""
    return {found[1]: found[2] for line in lines if (found := _ASSIGNED.match(line))}


def _replaced(page: Page, hunk: Hunk, old: str, new: str, kind: str) -> Iterator[Draft]:
    """`old` becomes `new` below a hunk, in the definition around it, as long as neither gets
    another value."""
    scope = page.scope_around(hunk.first)
    end = min(scope[1] if scope else page.last, hunk.end + _MAX_LINES)
    pattern = _whole(old)
    for number in range(hunk.end, end):
        line = page.lines.get(number, "")
        assigned = _ASSIGNED.match(line)
        if assigned is not None and assigned[1] in (old, new) and not line.rstrip().endswith(","):
            return
        edits = [
            LineEdit(number, found.start(), found.end(), new)
            for found in pattern.finditer(line)
            if not page.is_text(number, found.start())
        ]
        if edits:
            signs = Signs(kind, tokens=count_tokens([old if kind == "extracted" else new]))
            yield Draft(tuple(edits), f"still has {old}", signs)


def _whole(text: str) -> re.Pattern[str]:
    """Text where no longer name or attribute begins or ends with it."""
    start = r"(?<![\w.])" if re.match(r"\w", text) else ""
    end = r"(?!\w)" if re.search(r"\w\Z", text) else ""
    return re.compile(f"{start}{re.escape(text)}{end}")


def _is_one_value(value: str) -> bool:
    """Whether a value stands as it is in any expression: a name, a literal, a call of one."""
    outside = re.sub(r"\"[^\"]*\"|'[^']*'", "''", value)
    while (shorter := re.sub(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}", "", outside)) != outside:
        outside = shorter
    return re.fullmatch(r"[\w.'&*:]*", outside) is not None and bool(value)
