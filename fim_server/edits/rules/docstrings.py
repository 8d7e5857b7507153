"""Rule: after a signature changed, its documentation describes the parameters that it has now.

An entry for a parameter is `:param x:`, a line of `Args:` or of NumPy's `Parameters`, or `@param x`
in a comment above the function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.signature_changes import signature_changes
from fim_server.syntax.occurrences import Occurrence, Role
from fim_server.syntax.signatures import Signature

_MAX_ENTRY_LINES = 4
"""Longer entries are not deleted: the model rewrites at most this many lines at once."""

_MAX_COMMENT_LINES = 40
_COMMENT = ("*", "/*", "//", "#", "--")
_AFTER_FIELD = re.compile(r":(?:param|parameter|arg|argument|key|keyword|type)\s+(?:[^:]*\s)?\Z")
_AFTER_TAG = re.compile(r"[@\\]param(?:\[\w+\])?\s+(?:\{[^}]*\}\s+)?\[?\Z")
_LISTED = re.compile(r"\*{0,2}\s*(?:\([^)]*\))?\s*:(?!:)")
_INDENT = re.compile(r"\s+\*{0,2}\Z")
_NEXT_ENTRY = re.compile(r"\s*(?:\*\s*)?(?:[@\\:]\w+|\*/|\"\"\"|'''|$)")


def docstrings(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The entries of parameters that a hunk of the page renamed or removed."""
    for change in signature_changes(page, hunk):
        for old, new in change.renamed:
            # Entries inside the function are left to `renames`, which knows the name's scope.
            places = _entries(page, change.now, old, only_above=True)
            edits = [LineEdit(place.line, place.start, place.end, new) for place in places]
            yield Draft(tuple(edits), f"mentions {old}", Signs("renamed", text=True))
        signs = Signs("removed", text=True)
        for _, parameter in change.removed:
            for place in _entries(page, change.now, parameter.name):
                edits = list(_without_entry(page, place))
                yield Draft(tuple(edits), f"mentions {parameter.name}", signs, whole=True)


def _entries(
    page: Page, function: Signature, name: str, *, only_above: bool = False
) -> list[Occurrence]:
    """A parameter's name in the entries that describe it."""
    first, last = function.first + page.first, function.last + page.first
    top = _comment_top(page, first)
    if only_above:
        last = first
    return [
        place
        for place in page.occurrences(name)
        if top <= place.line <= last
        and place.role is Role.TEXT
        and _is_entry(page.lines[place.line], place, documented_above=place.line < first)
    ]


def _without_entry(page: Page, name: Occurrence) -> Iterator[LineEdit]:
    """The deletion of the entry that begins with a name, continuation lines included; none for a
    long one."""
    line = page.lines[name.line]
    if _NEXT_ENTRY.match(line) is None and line[: name.start].strip():
        return
    lines = [name.line, *_continuation(page, name.line)]
    if len(lines) <= _MAX_ENTRY_LINES and '"""' not in line and "'''" not in line:
        for number in lines:
            yield LineEdit(number, 0, len(page.lines[number]), "", drops=True)


def _is_entry(line: str, name: Occurrence, *, documented_above: bool) -> bool:
    before, after = line[: name.start], line[name.end :]
    if documented_above:
        return _AFTER_TAG.search(before) is not None
    is_field = _AFTER_FIELD.search(before) is not None and after.startswith(":")
    is_listed = _INDENT.match(before) is not None and _LISTED.match(after) is not None
    return is_field or is_listed or _AFTER_TAG.search(before) is not None


def _continuation(page: Page, number: int) -> Iterator[int]:
    """The numbers of the lines that continue an entry: deeper ones, or those of a comment that
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


def _comment_top(page: Page, first: int) -> int:
    """The first line of the comment right above a line; the line itself if there is none."""
    top = first
    while top - 1 in page.lines and page.lines[top - 1].lstrip().startswith(_COMMENT):
        if first - top >= _MAX_COMMENT_LINES:
            break
        top -= 1
    return top
