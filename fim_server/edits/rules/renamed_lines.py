"""Rule: a line that has a renamed name more than once is renamed as a whole.

A keyword and its value (`host=host`), an attribute and the parameter that it is set from
(`self.host = host`) are different names to the syntax, so `renames` changes one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import hunk_swaps
from fim_server.syntax.occurrences import Role

_TWICE = re.compile(r"([^\W\d]\w*)\s*(?:=|:|:=)\s*\1\b")


def renamed_lines(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The lines that have the old name of a hunk in two roles, with all of them renamed."""
    for swap in hunk_swaps(hunk):
        if not swap.is_name or swap.new in page.names_before:
            continue
        by_line: dict[int, list[LineEdit]] = {}
        roles: dict[int, set[Role]] = {}
        for place in page.occurrences(swap.old):
            edit = LineEdit(place.line, place.start, place.end, swap.new)
            by_line.setdefault(place.line, []).append(edit)
            roles.setdefault(place.line, set()).add(place.role)
        for number, edits in by_line.items():
            if len(roles[number]) > 1:
                named = [found[1] for found in _TWICE.finditer(page.line(number))]
                kind = "pair" if swap.old in named else ""
                signs = Signs(kind, tokens=len(edits), context=len(roles[number]))
                yield Draft(tuple(edits), f"still has {swap.old}", signs, whole=True)
