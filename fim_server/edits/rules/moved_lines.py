"""Rule: lines that were written a second time are deleted where they stood before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import Block, count_tokens, whole_lines
from fim_server.edits.rules.code_tokens import similarity, tokens
from fim_server.edits.rules.drafts import Draft, Signs
from fim_server.edits.rules.page import Page

_MIN_TOKENS = 3
_MIN_LINES = 2
"""Lines of a run that was changed on the way; a single like line is found anywhere."""
_ALIKE = 0.5
"""Least Jaccard index of the tokens of a line and what it was before."""


def moved_lines(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The deletion of the only other copy of the lines that a hunk added."""
    if not page.has(hunk):
        return
    for run in _added(hunk):
        if count_tokens(run) < _MIN_TOKENS:
            continue
        block = Block.of(run)
        kind = "part" if hunk.old else ""
        places = _outside(hunk, block.places(page), len(run))
        if not places and len(run) >= _MIN_LINES:
            kind = "alike"
            places = _outside(hunk, _alike(page, run), len(run))
        if len(places) == 1:
            [place] = places
            edits = whole_lines(page, place, place + len(run), ())
            signs = Signs(kind, tokens=count_tokens(run), context=len(run))
            yield Draft(edits, "was moved", signs, whole=True)


def _added(hunk: Hunk) -> Iterator[tuple[str, ...]]:
    """The runs of lines that a hunk added, without blank ones at either end."""
    old = {line.strip() for line in hunk.old} - {""}
    for is_kept, lines in groupby(hunk.new, key=lambda line: line.strip() in old):
        run = tuple(lines)
        written = [at for at, line in enumerate(run) if line.strip()]
        if written and not is_kept:
            yield run[written[0] : written[-1] + 1]


def _outside(hunk: Hunk, places: Iterator[int], count: int) -> list[int]:
    """The places that have no line of a hunk."""
    return [at for at in places if at >= hunk.end or at + count <= hunk.first]


def _alike(page: Page, run: Sequence[str]) -> Iterator[int]:
    """Where lines stand of which half are equal and the others alike, in the same order."""
    starts = {
        number - at
        for at, line in enumerate(run)
        if count_tokens([line]) >= _MIN_TOKENS
        for number in page.by_text.get(line.strip(), ())[:_MIN_LINES]
    }
    for start in sorted(starts):
        there = [page.line(at) for at in range(start, start + len(run))]
        pairs = list(zip(run, there, strict=True))
        equal = sum(a.strip() == b.strip() for a, b in pairs)
        alike = all(
            a.strip() == b.strip() or similarity(tokens([a]), tokens([b])) >= _ALIKE
            for a, b in pairs
        )
        if alike and 2 * equal >= len(run) and start >= page.first:
            yield start
