"""Prose: words of comments, strings and text files, which follow from no edit but the same one.

A word of prose that was replaced once says nothing about the next place where it stands; replaced
twice, it is a replacement. Names that are marked as code, or can only be names, are no prose.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fim_server.documents.diff import changed_words
from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk
from fim_server.edits.next_edit import Proposal
from fim_server.syntax.languages import Language, language_of
from fim_server.syntax.parsing import parsed

if TYPE_CHECKING:
    from tree_sitter import Node

MIN_TIMES = 2
"""Times that the user must have replaced the same words."""

TEXT_LANGUAGES = frozenset(
    {"asciidoc", "latex", "markdown", "plaintext", "restructuredtext", "rst", "tex", "text"}
)
"""Editors' identifiers of languages that are all prose."""

_ABOVE, _BELOW = 60, 20
"""Lines around a change that are parsed."""

_CODE_BEFORE = re.compile(r"`[^`]*\Z|[@:\\](?:\w+\s+)?(?:\S+\s+)?\Z|\A\s*[*#/\-]*\s*\Z")
_CODE_AFTER = re.compile(r"[^`]*`|\s*[:(=]|\s*--?\s")
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
_STRING = re.compile(r"string|char")

Words = tuple[str, str]
"""What stood there and what replaced it, without white space around them."""


def is_unproven_prose(proposal: Proposal, hunks: Iterable[Hunk], path: str = "") -> bool:
    """Whether a proposal replaces nothing but words of prose, and some of them were not replaced
    MIN_TIMES by the user's hunks. `path` is the document's."""
    snapshot, first, old, new = proposal.snapshot, proposal.first, proposal.old, proposal.new
    language = language_of(snapshot.language, path)
    if len(old) != len(new):
        return False
    changes = [
        (first + at, start, end, text)
        for at, (before, after) in enumerate(zip(old, new, strict=True))
        for start, end, text in changed_words(before, after)
    ]
    pairs = [
        (old[line - first][start:end].strip(), text.strip()) for line, start, end, text in changes
    ]
    if not pairs or not all(map(_is_wording, pairs)):
        return False
    if snapshot.language not in TEXT_LANGUAGES and not _are_in_text(snapshot, changes, language):
        return False
    times = Counter(words for hunk in hunks for words in _replaced_words(hunk))
    return any(times[words] < MIN_TIMES for words in pairs)


def _is_wording(words: Words) -> bool:
    """Whether a replacement is one of plain words: no name with capitals or underscores inside, no
    number and no operator."""
    found = [word for text in words for word in re.findall(r"\S+", text)]
    plain = (word.strip(".,;:!?()\"'") for word in found)
    return bool(found) and all(
        not word or (_PLAIN_WORDS.fullmatch(word) and (word.islower() or word.istitle()))
        for word in plain
    )


def _replaced_words(hunk: Hunk) -> Iterator[Words]:
    if len(hunk.old) != len(hunk.new):
        return
    for before, after in zip(hunk.old, hunk.new, strict=True):
        for start, end, text in changed_words(before, after):
            yield before[start:end].strip(), text.strip()


def _are_in_text(
    snapshot: Snapshot, changes: Sequence[tuple[int, int, int, str]], language: Language | None
) -> bool:
    """Whether all changes are within comments or strings, as words and not as code."""
    if language is None:
        return False
    top = max(changes[0][0] - _ABOVE, 0)
    lines = [without_end(line) for line in snapshot.lines[top : changes[-1][0] + _BELOW]]
    root = parsed("\n".join(lines), language)
    if root is None:
        return False
    return all(
        _is_prose(root, lines[line - top], line - top, start, end, language)
        for line, start, end, _ in changes
    )


def _is_prose(root: Node, line: str, row: int, start: int, end: int, language: Language) -> bool:
    low, high = (len(line[:at].encode("utf-8", "replace")) for at in (start, end))
    node = root.descendant_for_point_range((row, low), (row, max(high, low)))
    while node is not None and node.type not in language.texts:
        node = node.parent
    if node is None:
        return False
    if _STRING.search(node.type) and len((node.text or b"").split()) < 2:
        return False  # a word by itself is a value
    marked = _CODE_BEFORE.search(line[:start]) and _CODE_AFTER.match(line[end:])
    return not marked
