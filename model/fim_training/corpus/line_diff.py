"""Shortest line diffs (Myers, "An O(ND) Difference Algorithm and Its Variations", 1986)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Lines = Sequence[str]


@dataclass(frozen=True, slots=True)
class LineHunk:
    """Lines `[first, first + len(old))` of a text, counted from 0, become `new`; there is no equal
    line in between."""

    first: int
    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.first + len(self.old)


def line_distance(before: Lines, after: Lines, limit: int) -> int | None:
    """The fewest lines to delete and insert that turn one text into the other; None above `limit`.

    Takes O(limit²) steps beside the comparison of lines.
    """
    head, tail = _common_ends(before, after)
    steps = _furthest(before[head : len(before) - tail], after[head : len(after) - tail], limit)
    return None if steps is None else len(steps) - 1


def line_hunks(before: Lines, after: Lines, limit: int) -> list[LineHunk] | None:
    """The hunks of a shortest diff from the top down; None if it takes more than `limit` lines."""
    head, tail = _common_ends(before, after)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    steps = _furthest(old, new, limit)
    if steps is None:
        return None
    # Backwards through the steps: which lines are equal.
    pairs: list[tuple[int, int]] = []
    x, y = len(old), len(new)
    for size in range(len(steps) - 1, 0, -1):
        ends = steps[size - 1]
        k = x - y
        down = k == -size or (k != size and ends[k - 1] < ends[k + 1])
        before_k = k + 1 if down else k - 1
        from_x = ends[before_k]
        from_y = from_x - before_k
        start_x = from_x if down else from_x + 1
        while x > start_x:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = from_x, from_y
    pairs += [(at, at) for at in range(x - 1, -1, -1)]
    found = []
    at, at_new = 0, 0
    for x, y in [*reversed(pairs), (len(old), len(new))]:
        if x > at or y > at_new:
            found.append(LineHunk(head + at, tuple(old[at:x]), tuple(new[at_new:y])))
        at, at_new = x + 1, y + 1
    return found


def applied(lines: Lines, hunks: Sequence[LineHunk]) -> list[str]:
    """A text after hunks, given from the top down, none of which overlap."""
    found = list(lines)
    for hunk in reversed(hunks):
        found[hunk.first : hunk.end] = hunk.new
    return found


def _furthest(old: Lines, new: Lines, limit: int) -> list[dict[int, int]] | None:
    """For each number of changed lines the furthest line of `old` on each diagonal."""
    steps: list[dict[int, int]] = []
    ends: dict[int, int] = {1: 0}
    for size in range(limit + 1):
        now: dict[int, int] = {}
        for k in range(-size, size + 1, 2):
            if k == -size or (k != size and ends.get(k - 1, -1) < ends.get(k + 1, -1)):
                x = ends.get(k + 1, 0)
            else:
                x = ends[k - 1] + 1
            y = x - k
            while x < len(old) and y < len(new) and old[x] == new[y]:
                x, y = x + 1, y + 1
            now[k] = x
            if x >= len(old) and y >= len(new):
                steps.append(now)
                return steps
        steps.append(now)
        ends = now
    return None


def _common_ends(before: Lines, after: Lines) -> tuple[int, int]:
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return head, tail
