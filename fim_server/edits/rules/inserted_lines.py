"""Rule: lines inserted between two lines are inserted where the same lines meet again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import (
    MAX_CONTEXT_LINES,
    count_tokens,
    equal_lines,
    indentation,
    reindented,
)
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page

_MIN_CONTEXT = 2
"""Equal lines on a side, where the other side differs and the lines were inserted once."""


def inserted_lines(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The other places where the line above an insertion stands, the line below, or both."""
    if hunk.old or not page.has(hunk) or not any(line.strip() for line in hunk.new):
        return
    above, below = nearest(page, hunk.first - 1, -1), nearest(page, hunk.end, 1)
    for number in page.by_text.get(page.line(above).strip(), ()) if above is not None else ():
        if number != above and above is not None:
            yield from _after(page, hunk, above, number)
    for number in page.by_text.get(page.line(below).strip(), ()) if below is not None else ():
        if number != below and below is not None:
            yield from _before(page, hunk, below, number)


def nearest(page: Page, line: int, step: int) -> int | None:
    """The first line from `line` on that is not blank, at most one away; None if there is none."""
    for at in (line, line + step):
        if page.line(at).strip():
            return at
    return None


def _after(page: Page, hunk: Hunk, above: int, number: int) -> Iterator[Draft]:
    """The insertion below a line that is equal to the one above the hunk."""
    blank = hunk.first - 1 - above
    at = number + blank
    if blank and page.line(at).strip():
        return
    new = reindented(hunk.new, indentation(page.line(above)), indentation(page.line(number)))
    if _stands(page, at + 1, new):
        return
    higher = equal_lines(page, above, number, -1, MAX_CONTEXT_LINES)
    lower = equal_lines(page, hunk.end, at + 1, 1, MAX_CONTEXT_LINES)
    kind = "between" if lower and not blank else "below"
    if kind == "below" and higher < _least(page, hunk):
        return
    signs = _signs(page, hunk, kind, number, higher, lower)
    line = page.line(at)
    edit = LineEdit(at, len(line), len(line), "".join(f"\n{text}" for text in new))
    yield Draft((edit,), "same line as above what was inserted", signs, whole=True)


def _before(page: Page, hunk: Hunk, below: int, number: int) -> Iterator[Draft]:
    """The insertion above a line that is equal to the one below the hunk."""
    blank = below - hunk.end
    at = number - blank
    if blank and page.line(at).strip():
        return
    new = reindented(hunk.new, indentation(page.line(below)), indentation(page.line(number)))
    higher = equal_lines(page, hunk.first - 1, at - 1, -1, MAX_CONTEXT_LINES)
    if higher or _stands(page, at - len(new), new):
        return  # the line above is equal as well: that is `_after`
    lower = equal_lines(page, below, number, 1, MAX_CONTEXT_LINES)
    if lower < _least(page, hunk):
        return
    signs = _signs(page, hunk, "above", number, higher, lower)
    edit = LineEdit(at, 0, 0, "".join(f"{text}\n" for text in new))
    yield Draft((edit,), "same line as below what was inserted", signs, whole=True)


def _least(page: Page, hunk: Hunk) -> int:
    """Equal lines that are asked for: one, if the same lines were inserted more than once."""
    new = [line.strip() for line in hunk.new]
    same = (
        not other.old and [line.strip() for line in other.new] == new for other in page.own_hunks
    )
    return 1 if sum(same) > 1 else _MIN_CONTEXT


def _signs(page: Page, hunk: Hunk, kind: str, number: int, higher: int, lower: int) -> Signs:
    tokens = count_tokens([page.line(number)])
    text = page.is_text(number, len(indentation(page.line(number))))
    return Signs(kind, tokens=tokens, context=higher + lower, text=text)


def _stands(page: Page, first: int, new: Sequence[str]) -> bool:
    """Whether lines stand at a place already."""
    return all(page.line(first + at).strip() == line.strip() for at, line in enumerate(new))
