"""Whether words are prose: words of comments and strings, not names that are marked as code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language
from fim_server.syntax.parsing import parsed

if TYPE_CHECKING:
    from tree_sitter import Node

TEXT_LANGUAGES = frozenset(
    {"asciidoc", "latex", "markdown", "plaintext", "restructuredtext", "rst", "tex", "text"}
)
"""Editors' identifiers of languages that are all prose."""

Span = tuple[int, int, int]
"""Characters `[start, end)` of a row."""

_CODE_BEFORE = re.compile(r"`[^`]*\Z|[@:\\](?:\w+\s+)?(?:\S+\s+)?\Z|\A\s*[*#/\-]*\s*\Z")
_CODE_AFTER = re.compile(r"[^`]*`|\s*[:(=]|\s*--?\s")
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
_STRING = re.compile(r"string|char")


def is_wording(text: str) -> bool:
    """Whether a text has plain words alone: no name with capitals or underscores inside, no number
    and no operator."""
    plain = (word.strip(".,;:!?()\"'") for word in text.split())
    return all(
        not word or (_PLAIN_WORDS.fullmatch(word) and (word.islower() or word.istitle()))
        for word in plain
    )


def are_in_prose(lines: Sequence[str], spans: Iterable[Span], language: Language) -> bool:
    """Whether all spans of some lines are within comments or strings, as words and not as code."""
    root = parsed("\n".join(lines), language)
    if root is None:
        return False
    return all(_is_prose(root, lines[row], row, start, end, language) for row, start, end in spans)


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
