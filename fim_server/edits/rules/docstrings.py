"""Where a function's documentation has an entry for a parameter: `:param x:`, a line of `Args:`, of
NumPy's `Parameters`, and `@param x` in a comment above."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fim_server.edits.rules.drafts import LineEdit
from fim_server.edits.rules.page import Page
from fim_server.syntax.occurrences import Occurrence, Role
from fim_server.syntax.signatures import Signature

MOST_ENTRY_LINES = 4
"""A longer entry is more than the model rewrites at once."""

_ABOVE = 40
_COMMENT = ("*", "/*", "//", "#", "--")
_BEHIND_FIELD = re.compile(r":(?:param|parameter|arg|argument|key|keyword|type)\s+(?:[^:]*\s)?\Z")
_BEHIND_TAG = re.compile(r"[@\\]param(?:\[\w+\])?\s+(?:\{[^}]*\}\s+)?\[?\Z")
_LISTED = re.compile(r"\*{0,2}\s*(?:\([^)]*\))?\s*:(?!:)")
_INDENT = re.compile(r"\s+\*{0,2}\Z")
_NEXT_ENTRY = re.compile(r"\s*(?:\*\s*)?(?:[@\\:]\w+|\*/|\"\"\"|'''|$)")


def entries_of(
    page: Page, function: Signature, name: str, *, only_above: bool = False
) -> list[Occurrence]:
    """The places of a parameter's name in the entries that tell of it."""
    first, last = function.first + page.first, function.last + page.first
    top = _top(page, first)
    if only_above:
        last = first
    return [
        one
        for one in page.occurrences(name)
        if top <= one.line <= last
        and one.role is Role.TEXT
        and _is_entry(page.lines[one.line], one, documented_above=one.line < first)
    ]


def without_entry(page: Page, name: Occurrence) -> Iterator[LineEdit]:
    """The entry of a name and the lines that go on with it are gone; nothing for a long one."""
    line = page.lines[name.line]
    if _NEXT_ENTRY.match(line) is None and line[: name.start].strip():
        return
    lines = [name.line, *_continued(page, name.line)]
    if len(lines) <= MOST_ENTRY_LINES and '"""' not in line and "'''" not in line:
        for number in lines:
            yield LineEdit(number, 0, len(page.lines[number]), "", drops=True)


def _is_entry(line: str, name: Occurrence, *, documented_above: bool) -> bool:
    before, behind = line[: name.start], line[name.end :]
    if documented_above:
        return _BEHIND_TAG.search(before) is not None
    is_field = _BEHIND_FIELD.search(before) is not None and behind.startswith(":")
    is_listed = _INDENT.match(before) is not None and _LISTED.match(behind) is not None
    return is_field or is_listed or _BEHIND_TAG.search(before) is not None


def _continued(page: Page, number: int) -> Iterator[int]:
    """The lines below an entry's first that belong to it: deeper ones, or those of a comment that
    begin no other entry."""
    first = page.lines[number]
    starred = first.lstrip().startswith("*")
    depth = len(first) - len(first.lstrip())
    while (line := page.lines.get(number := number + 1)) is not None:
        deeper = len(line) - len(line.lstrip()) > depth
        goes_on = _NEXT_ENTRY.match(line) is None and line.strip(" *\t")
        if not (goes_on and (deeper or (starred and line.lstrip().startswith("*")))):
            return
        yield number


def _top(page: Page, first: int) -> int:
    """The first line of the comment right above a line, or that line."""
    top = first
    while top - 1 in page.lines and page.lines[top - 1].lstrip().startswith(_COMMENT):
        if first - top >= _ABOVE:
            break
        top -= 1
    return top
