"""Rule: lines that were written a second time are deleted where they stood before."""

from __future__ import annotations

from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import Block, count_tokens, whole_lines
from fim_server.edits.rules.drafts import Draft, Signs
from fim_server.edits.rules.page import Page

_MIN_TOKENS = 3


def moved_lines(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The deletion of the inserted lines' only other copy."""
    if hunk.old or not page.has(hunk) or count_tokens(hunk.new) < _MIN_TOKENS:
        return
    block = Block.of(_stripped(hunk.new))
    places = [first for first in block.places(page) if not hunk.first <= first < hunk.end]
    if len(places) == 1:
        [first] = places
        edits = whole_lines(page, first, first + len(block.lines), ())
        signs = Signs(tokens=count_tokens(hunk.new))
        yield Draft(edits, "was moved", signs, whole=True)


def _stripped(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Lines without blank ones at either end."""
    kept = [at for at, line in enumerate(lines) if line.strip()]
    return lines[kept[0] : kept[-1] + 1]
