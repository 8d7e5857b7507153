"""Which parts of two sequences are equal: lines of texts, tokens of lines. The cost is bounded.

A shortest diff (Myers, "An O(ND) Difference Algorithm and Its Variations", 1986) is searched within
`MAX_STEPS` comparisons. Where that is not enough, the elements that each sequence has once divide
the sequences (patience diff); what is left between two of them is taken as replaced. So the answer
is always right, but in very different or very repetitive sequences not the shortest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from fim_server.documents.lines import Range, common_ends

MAX_STEPS = 40_000
"""Comparisons for one alignment, about 10 ms. Common ends and unique elements cost a few
passes over the sequences beside them."""

Opcode = tuple[str, int, int, int, int]


class _Exhausted(Exception):
    """No steps are left."""


def differences(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[Range]:
    """The ranges `[low, high)` of `old` and those of `new` in their place, in order: between them
    both sequences are equal."""
    head, tail = common_ends(old, new)
    steps = _Steps(MAX_STEPS)
    rest = old[head : len(old) - tail], new[head : len(new) - tail]
    found = _differences(*rest, steps, divide=True)
    return [(low + head, high + head, from_ + head, to + head) for low, high, from_, to in found]


def opcodes(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[Opcode]:
    """The same in the form of `difflib.SequenceMatcher.get_opcodes`, equal ranges included."""
    found: list[Opcode] = []
    at, new_at = 0, 0
    for low, high, from_, to in [*differences(old, new), (len(old), len(old), len(new), len(new))]:
        if low > at:
            found.append(("equal", at, low, new_at, from_))
        if low < high or from_ < to:
            tag = "replace" if low < high and from_ < to else "delete" if low < high else "insert"
            found.append((tag, low, high, from_, to))
        at, new_at = high, to
    return found


class _Steps:
    """What is left of a number of steps."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _Exhausted


def _differences(
    old: Sequence[Hashable], new: Sequence[Hashable], steps: _Steps, *, divide: bool
) -> list[Range]:
    """The differences; `divide` allows to look for unique elements if there are too few steps."""
    if not old or not new:
        return [(0, len(old), 0, len(new))] if old or new else []
    try:
        return _between(_shortest(old, new, steps), len(old), len(new))
    except _Exhausted:
        anchors = _anchors(old, new) if divide else []
    if not anchors:
        return [(0, len(old), 0, len(new))]
    steps.left = MAX_STEPS // 2 if divide else 0
    found = []
    for low, high, from_, to in _between(anchors, len(old), len(new)):
        inner = _trimmed(old[low:high], new[from_:to], steps)
        found += [(low + a, low + b, from_ + c, from_ + d) for a, b, c, d in inner]
    return found


def _trimmed(old: Sequence[Hashable], new: Sequence[Hashable], steps: _Steps) -> list[Range]:
    head, tail = common_ends(old, new)
    rest = old[head : len(old) - tail], new[head : len(new) - tail]
    found = _differences(*rest, steps, divide=False)
    return [(low + head, high + head, from_ + head, to + head) for low, high, from_, to in found]


def _between(pairs: Sequence[tuple[int, int]], size: int, new_size: int) -> list[Range]:
    """The ranges outside of pairs of equal elements, which are in order."""
    found = []
    low, from_ = 0, 0
    for high, to in [*pairs, (size, new_size)]:
        if low < high or from_ < to:
            found.append((low, high, from_, to))
        low, from_ = high + 1, to + 1
    return found


def _shortest(
    old: Sequence[Hashable], new: Sequence[Hashable], steps: _Steps
) -> list[tuple[int, int]]:
    """The pairs of equal elements of a shortest diff. Raises _Exhausted."""
    size, new_size = len(old), len(new)
    # By number of changes: the furthest element of `old` on each diagonal, old less new.
    trace: list[dict[int, int]] = []
    furthest = {1: 0}
    for changes in range(size + new_size + 1):
        reached: dict[int, int] = {}
        for diagonal in range(-changes, changes + 1, 2):
            inserts = diagonal == -changes or (
                diagonal != changes and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            at = furthest[diagonal + 1] if inserts else furthest[diagonal - 1] + 1
            start, place = at, at - diagonal
            while at < size and place < new_size and old[at] == new[place]:
                at, place = at + 1, place + 1
            steps.take(1 + at - start)
            reached[diagonal] = at
            if at >= size and place >= new_size:
                trace.append(reached)
                return list(reversed(list(_backwards(trace, size, new_size))))
        trace.append(reached)
        furthest = reached
    raise AssertionError("two sequences differ by no more than their lengths")


def _backwards(
    trace: Sequence[dict[int, int]], size: int, new_size: int
) -> Iterator[tuple[int, int]]:
    """The pairs of equal elements on the way back through the furthest places."""
    at, place = size, new_size
    for changes in range(len(trace) - 1, -1, -1):
        furthest = trace[changes - 1] if changes else {1: 0}
        diagonal = at - place
        inserts = diagonal == -changes or (
            diagonal != changes and furthest[diagonal - 1] < furthest[diagonal + 1]
        )
        before = furthest[diagonal + 1] if inserts else furthest[diagonal - 1]
        start = before if inserts else before + 1
        while at > start:
            at, place = at - 1, place - 1
            yield at, place
        at, place = before, before - (diagonal + 1 if inserts else diagonal - 1)


def _anchors(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The longest increasing sequence of pairs of elements that both sequences have once."""
    count, new_count = Counter(old), Counter(new)
    places = {element: at for at, element in enumerate(new) if new_count[element] == 1}
    pairs = [
        (at, places[element])
        for at, element in enumerate(old)
        if count[element] == 1 and element in places
    ]
    tops: list[int] = []
    piles: list[int] = []
    below: list[int | None] = []
    for index, (_, place) in enumerate(pairs):
        pile = bisect_left(tops, place)
        below.append(piles[pile - 1] if pile else None)
        tops[pile : pile + 1] = [place]
        piles[pile : pile + 1] = [index]
    chosen = []
    last = piles[-1] if piles else None
    while last is not None:
        chosen.append(pairs[last])
        last = below[last]
    return chosen[::-1]
