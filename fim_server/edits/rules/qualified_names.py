"""Rule: names are written as their import now says: `re.Match` after `from re import Match` is
`Match`, and the other way around."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import read_import
from fim_server.edits.rules.page import Page
from fim_server.syntax.occurrences import Role


def qualified_names(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The uses of names that a hunk of the page began or ceased to import one by one."""
    if not page.has(hunk):
        return
    old, new = _listed(hunk.old), _listed(hunk.new)
    for name, module in new.items():
        if name in old:
            continue
        for number, line in page.lines.items():
            if name in line:
                yield from _shortened(page, number, line, module, name)
    for name, module in old.items():
        if name in new:
            continue
        root = _imported_whole(page, module)
        if root:
            edits = [
                LineEdit(place.line, place.start, place.start, f"{root}.")
                for place in page.occurrences(name)
                if place.role is Role.NAME
                and not place.binds
                and read_import(page.line(place.line)) is None
            ]
            yield Draft(tuple(edits), f"{name} is no longer imported", Signs("qualified"))


def _listed(lines: Sequence[str]) -> dict[str, str]:
    """The names that lines import one by one, with their modules."""
    found = (read_import(line) for line in lines)
    return {name: each.module for each in found if each and each.is_list for name in each.names}


def _shortened(page: Page, number: int, line: str, module: str, name: str) -> Iterator[Draft]:
    roots = "|".join(map(re.escape, {module, module.rpartition(".")[2]}))
    pattern = re.compile(rf"(?<![\w.])(?:{roots})\.(?={re.escape(name)}\b)")
    edits = [
        LineEdit(number, found.start(), found.end(), "")
        for found in pattern.finditer(line)
        if not page.is_text(number, found.start())
    ]
    if edits:
        yield Draft(tuple(edits), f"{name} is imported", Signs("shortened"))


def _imported_whole(page: Page, module: str) -> str:
    """The name by which a page uses a module that it imports as a whole; "" if it does not."""
    for line in page.by_text:
        found = read_import(line)
        if found is not None and not found.is_list and found.module == module:
            return found.names[0] if " as " in line else module
    return ""
