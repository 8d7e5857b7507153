"""Rule: a replaced literal or passage is replaced wherever the same text stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import Swap, changed_pairs, is_literal, passages, swaps

_WEIGHT = 2.6


def replacements(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The other places of the literals and passages that a hunk replaced."""
    for line in changed_pairs(hunk):
        for swap in swaps(line):
            if is_literal(swap.old) and len(swap.old) > 1 and _is_new(page, swap):
                yield _everywhere(page, swap.old, swap.new)
        for old, new in passages(line):
            yield _everywhere(page, old, new)


def _is_new(page: Page, swap: Swap) -> bool:
    """Whether a literal is new to the page, or was put in twice. A string that is an existing name,
    such as a key, is not new."""
    if swap.is_name:
        return False
    known = swap.new.strip("\"'`") in page.names_before
    return not known or page.swap_counts[swap.old, swap.new] > 1


def _everywhere(page: Page, old: str, new: str) -> Draft:
    """The replacement of a text in all lines, at word borders."""
    start = r"(?<!\w)" if old[0].isalnum() else ""
    end = r"(?!\w)" if old[-1].isalnum() else ""
    pattern = re.compile(rf"{start}{re.escape(old)}{end}")
    edits = (
        LineEdit(number, match.start(), match.end(), new)
        for number, line in page.lines.items()
        for match in pattern.finditer(line)
    )
    return Draft(tuple(edits), f"still has {old.strip()}", _WEIGHT)
