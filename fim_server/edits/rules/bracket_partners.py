"""Rule: a bracket that lost its partner in an edit is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.syntax.brackets import CLOSERS, LOOSE, unmatched

_MAX_LINES = 120
"""Lines above or below a hunk in which a partner is looked for."""


def bracket_partners(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The brackets around a hunk of the page that had a partner before it and have none now."""
    if not page.has(hunk) or page.snapshot.language in LOOSE or len(hunk.old) > _MAX_LINES:
        return
    if _kinds(page, hunk.old) == _kinds(page, hunk.new):
        return
    below = [page.line(at) for at in range(hunk.end, min(hunk.end + _MAX_LINES, page.last))]
    lost = _alone(page, hunk.new, below, True) - _alone(page, hunk.old, below, True)
    for row, character in sorted(lost)[:1]:
        yield _without(page, hunk.end + row, character, "closing")
    start = max(hunk.first - _MAX_LINES, page.first)
    above = [page.line(at) for at in range(start, hunk.first)]
    lost = _alone(page, hunk.new, above, False) - _alone(page, hunk.old, above, False)
    for row, character in sorted(lost, reverse=True)[:1]:
        yield _without(page, start + row, character, "opening")


def _kinds(page: Page, lines: Sequence[str]) -> list[str]:
    return [mark.character for mark in unmatched("\n".join(lines), page.snapshot.language)]


def _alone(
    page: Page, inner: Sequence[str], outer: Sequence[str], below: bool
) -> set[tuple[int, int]]:
    """The row and character of the brackets without a partner in the lines below (or above) some
    others, towards which they could have one."""
    lines = [*inner, *outer] if below else [*outer, *inner]
    starts, at = [], 0
    for line in lines:
        starts.append(at)
        at += len(line) + 1
    found = set()
    row = 0
    for mark in unmatched("\n".join(lines), page.snapshot.language):
        while row + 1 < len(starts) and starts[row + 1] <= mark.at:
            row += 1
        closes = mark.character in CLOSERS
        outside = row - len(inner) if below else row
        if closes == below and 0 <= outside < len(outer) and mark.character in "()[]{}":
            found.add((outside, mark.at - starts[row]))
    return found


def _without(page: Page, number: int, at: int, kind: str) -> Draft:
    line = page.line(number)
    left = line[:at] + line[at + 1 :]
    if left.strip(" \t,;"):
        edit = LineEdit(number, at, at + 1, "")
    else:
        edit = LineEdit(number, 0, len(line), "", drops=True)
    return Draft((edit,), "a bracket lost its partner", Signs(kind))
