"""Rule: names that are no longer imported one by one are written with their module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import read_import
from fim_server.edits.rules.page import Page
from fim_server.syntax.occurrences import Role


def qualified_names(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The uses of names that a hunk of the page ceased to import, where their module is imported:
    after `from re import Match` became `import re`, `Match` becomes `re.Match`."""
    if not page.has(hunk):
        return
    kept = _listed(hunk.new)
    for name, module in _listed(hunk.old).items():
        root = "" if name in kept else _imported_whole(page, module)
        if root:
            edits = [
                LineEdit(place.line, place.start, place.start, f"{root}.")
                for place in page.occurrences(name)
                if place.role is Role.NAME
                and not place.binds
                and read_import(page.line(place.line)) is None
            ]
            yield Draft(tuple(edits), f"{name} is no longer imported", Signs())


def _listed(lines: Sequence[str]) -> dict[str, str]:
    """The names that lines import one by one, with their modules."""
    found = (read_import(line) for line in lines)
    return {name: each.module for each in found if each and each.is_list for name in each.names}


def _imported_whole(page: Page, module: str) -> str:
    """The name by which a page uses a module that it imports as a whole; "" if it does not."""
    for line in page.by_text:
        found = read_import(line)
        if found is not None and not found.is_list and found.module == module:
            return found.names[0] if " as " in line else module
    return ""
