"""Lines that were put into one place, or taken out of it, and places that look alike: the other
branch, the sibling function, the third of three similar stretches.

A place looks alike if the lines around it have the same shape, with other names in the same roles;
what differs there differs in what is put in, too.
"""

from __future__ import annotations

import keyword
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fim_server.edits.history import Hunk
from fim_server.edits.rules.clues import NAME
from fim_server.edits.rules.drafts import DOUBT, LineEdit, Suggestion
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import is_literal, pieces

_WEIGHT = 1.7
_MOST_LINES = 4
"""A longer passage is more than the model rewrites at once."""

_MOST_PLACES = 3
_REACH = 80
"""Lines with something on them, on each side, that are compared."""

_CONTEXT = 3
_LEAST = 2
"""Lines that must look alike, the end or the beginning of a block counted as one."""

_SURE = 3
_LISTING = 2
_FIXED = frozenset(
    {*keyword.kwlist, "self", "this", "match", "case", "switch", "default", "catch", "finally"}
    | {"function", "const", "let", "var", "func", "fn", "new", "do", "then", "end", "local"}
    | {"null", "true", "false", "nil", "throw", "int", "void", "static", "public", "private"}
)
"""Words that are no names: they stand in for no other."""


@dataclass(slots=True)
class _Match:
    """How a place corresponds to that of the edit: which token is which, how deep one and the
    other are, and how many lines say so."""

    tokens: dict[str, str] = field(default_factory=dict)
    indents: tuple[int, str] | None = None
    telling: int = 0
    agreeing: int = 0

    def takes(self, one: str, other: str) -> bool:
        """Whether another pair of lines corresponds in the same way; it then counts."""
        a, b = pieces(one.strip()), pieces(other.strip())
        if len(a) != len(b) or not self._is_as_deep(one, other):
            return False
        tokens = dict(self.tokens)
        for x, y in zip(a, b, strict=True):
            if not _may_stand_for(x, y) or tokens.setdefault(x, y) != y:
                return False
        self.tokens = tokens
        self.indents = self.indents or (_indent(one), other[: _indent(other)])
        names = {x for x in a if NAME.fullmatch(x) and x not in _FIXED}
        same = {x for x in names if tokens[x] == x}
        self.telling += len(names) > 1 and bool(same)
        return True

    def applied(self, line: str) -> str:
        """The line as it would stand there."""
        made = "".join(self.tokens.get(token, token) for token in pieces(line.strip()))
        theirs, ours = self.indents or (0, "")
        deeper = _indent(line) - theirs
        more = (ours[:1] or line[:1] or " ") * deeper
        return (ours + more if deeper >= 0 else ours[:deeper]) + made

    def _is_as_deep(self, one: str, other: str) -> bool:
        if self.indents is None:
            return True
        theirs, ours = self.indents
        return _indent(other) - len(ours) == _indent(one) - theirs


def mirrored(page: Page, hunk: Hunk) -> Iterator[Suggestion]:
    """What follows where a hunk only put lines in or took lines out."""
    lines = [line for line in hunk.new or hunk.old if line.strip()]
    if bool(hunk.old) is bool(hunk.new) or not 0 < len(lines) <= _MOST_LINES:
        return
    around = _Around(page, hunk)
    if around.is_listing(lines):
        return  # one entry of a list says nothing of the others
    places = _added(around, lines) if hunk.new else _removed(around, lines)
    best = sorted(places, key=lambda one: (-one[0], one[1]))
    for score, _, edits, changed in best[:_MOST_PLACES]:
        doubt = DOUBT * (1 + _LEAST - score + (not changed))  # each line alike speaks for it
        yield Suggestion(edits, "looks like the place that changed", _WEIGHT, doubt=doubt)


_Found = tuple[int, int, tuple[LineEdit, ...], bool]
"""How much is alike, how far it is, what to do, and whether other names stand there."""


class _Around:
    """The lines with something on them: before the hunk `[:above]`, behind it `[below:]`."""

    def __init__(self, page: Page, hunk: Hunk) -> None:
        self.numbers = sorted(page.lines)
        self.texts = [page.lines[number] for number in self.numbers]
        self.above = bisect_left(self.numbers, hunk.first)
        self.below = bisect_left(self.numbers, hunk.end)
        self.touches = self.above > 0 and self.numbers[self.above - 1] == hunk.first - 1

    def is_listing(self, lines: Sequence[str]) -> bool:
        """Whether several lines next to the hunk have the shape of what it has."""
        near = [*self.texts[max(self.above - 2, 0) : self.above], *self.texts[self.below :][:2]]
        alike = (any(_Match().takes(line, other) for line in lines) for other in near)
        return sum(alike) >= _LISTING

    def gaps(self) -> range:
        """Where between lines something may be missing, not too far from the hunk."""
        return range(max(self.above - _REACH, 0), min(self.below + _REACH, len(self.texts)) + 1)

    def match(self, end: int, start: int, own: _Match | None = None) -> _Match | None:
        """How what stands before line `end` and from line `start` on corresponds to what stands
        around the hunk; None if it does not."""
        found = own or _Match()
        above = below = 0
        while (
            above < _CONTEXT
            and above < min(self.above, end)
            and found.takes(self.texts[self.above - 1 - above], self.texts[end - 1 - above])
        ):
            above += 1
        rest = len(self.texts) - max(self.below, start)
        while below < min(_CONTEXT, rest) and found.takes(
            self.texts[self.below + below], self.texts[start + below]
        ):
            below += 1
        found.agreeing = above + below
        if above and not below:
            found.agreeing += self._ends(self.above, self.below) and self._ends(end, start)
        if below and not above:
            found.agreeing += self._begins(self.above, self.below) and self._begins(end, start)
        return found if found.telling and found.agreeing >= _LEAST else None

    def _ends(self, end: int, start: int) -> bool:
        """Whether a block ends between two lines."""
        return start == len(self.texts) or _indent(self.texts[start]) < _indent(self.texts[end - 1])

    def _begins(self, end: int, start: int) -> bool:
        return end > 0 and _indent(self.texts[end - 1]) < _indent(self.texts[start])


def _added(around: _Around, lines: Sequence[str]) -> Iterator[_Found]:
    for gap in around.gaps():
        if around.above <= gap <= around.below or (gap == 0 and around.touches):
            continue
        match = around.match(gap, gap)
        if match is None:
            continue
        made = [match.applied(line) for line in lines]
        near = [line.strip() for line in around.texts[max(gap - 2, 0) : gap + 2]]
        changed = [one.strip() for one in made] != [one.strip() for one in lines]
        if made[0].strip() in near or (not changed and match.agreeing < _SURE):
            continue
        text = "\n".join(made)
        if around.touches or gap == len(around.texts):
            length = len(around.texts[gap - 1])
            edit = LineEdit(around.numbers[gap - 1], length, length, f"\n{text}")
        else:
            edit = LineEdit(around.numbers[gap], 0, 0, f"{text}\n")
        yield match.agreeing, abs(gap - around.above), (edit,), changed


def _removed(around: _Around, lines: Sequence[str]) -> Iterator[_Found]:
    size = len(lines)
    for start in around.gaps():
        end = start + size
        if end > len(around.texts) or start < around.above < end:
            continue
        own = _Match()
        pairs = list(zip(lines, around.texts[start:end], strict=True))
        if not all(own.takes(one, other) for one, other in pairs):
            continue
        own.telling = 0
        match = around.match(start, end, own)
        if match is None:
            continue
        changed = any(one.strip() != other.strip() for one, other in pairs)
        edits = tuple(
            LineEdit(number, 0, len(text), "", drops=True)
            for number, text in zip(around.numbers[start:end], around.texts[start:end], strict=True)
        )
        if changed or match.agreeing >= _SURE:
            yield match.agreeing, abs(start - around.above), edits, changed


def _may_stand_for(one: str, other: str) -> bool:
    if one == other:
        return True
    if one in _FIXED or other in _FIXED:
        return False
    both_names = NAME.fullmatch(one) and NAME.fullmatch(other)
    return bool(both_names) or (is_literal(one) and is_literal(other))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
