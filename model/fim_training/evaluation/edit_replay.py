"""Replays the hunks of a commit, one after the other, and judges what is proposed in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from fim_training.corpus.line_diff import LineHunk, applied, line_distance, line_hunks
from fim_training.examples.hunk_sequences import MAX_HUNK_LINES, MAX_HUNKS, HunkSequence

_LIMIT = 2 * MAX_HUNKS * MAX_HUNK_LINES
"""Most lines that the hunks of a sequence change."""

SHAPES = ("same count", "insertion", "deletion", "other count")


@dataclass(frozen=True, slots=True)
class Point:
    """The moment after an edit.

    done: how many hunks were made. edit: the last one, in lines of `lines` before it. lines: the
    text now. rest: the hunks still to come, in lines of the text now, from the top down.
    """

    done: int
    edit: LineHunk
    before: Sequence[str]
    lines: Sequence[str]
    rest: tuple[LineHunk, ...]
    names: tuple[int, ...]
    """For each hunk in `rest` its index in the sequence."""

    final: Sequence[str]


def points(sequence: HunkSequence, *, shuffled: bool, seed: int = 0) -> Iterator[Point]:
    """The moments after each hunk, in the file's order or in a random one."""
    order = list(range(len(sequence.hunks)))
    if shuffled:
        Random(f"{seed} {sequence.commit} {sequence.path}").shuffle(order)
    final, lines = sequence.after, list(sequence.before)
    made: set[int] = set()
    for done, index in enumerate(order, 1):
        edit = _moved(sequence.hunks, index, made)
        before, lines = lines, applied(lines, [edit])
        made.add(index)
        left = [other for other in range(len(sequence.hunks)) if other not in made]
        rest = tuple(_moved(sequence.hunks, other, made) for other in left)
        yield Point(done, edit, before, lines, rest, tuple(left), final)


def _moved(hunks: Sequence[LineHunk], index: int, made: set[int]) -> LineHunk:
    """A hunk where it stands after those above it that were made."""
    by = sum(len(hunks[other].new) - len(hunks[other].old) for other in made if other < index)
    hunk = hunks[index]
    return LineHunk(hunk.first + by, hunk.old, hunk.new)


def shape_of(hunk: LineHunk) -> str:
    """One of SHAPES."""
    if not hunk.old or not hunk.new:
        return "deletion" if hunk.old else "insertion"
    return "same count" if len(hunk.old) == len(hunk.new) else "other count"


@dataclass(frozen=True, slots=True)
class Verdict:
    """right: every line change of a proposal lies on a shortest diff from the text now to the final
    one. place: something changes in the lines that it changes. touched: the coming hunks that a
    right proposal makes, at least in part; whole: those that it makes completely; met: those whose
    lines any proposal changes. By index in the sequence."""

    right: bool
    place: bool
    touched: frozenset[int] = frozenset()
    whole: frozenset[int] = frozenset()
    met: frozenset[int] = frozenset()


class Judge:
    """Judges proposals at one point."""

    def __init__(self, point: Point) -> None:
        self._point = point

    @cached_property
    def _distance(self) -> int:
        found = line_distance(self._point.lines, self._point.final, _LIMIT)
        return _LIMIT if found is None else found

    def verdict(self, first: int, old: Sequence[str], new: Sequence[str]) -> Verdict:
        """Of the proposal that lines `old` from number `first` on become `new`."""
        point = self._point
        hunks = line_hunks(old, new, len(old) + len(new)) or []
        moved = [LineHunk(hunk.first + first, hunk.old, hunk.new) for hunk in hunks]
        met = frozenset(
            name
            for name, coming in zip(point.names, point.rest, strict=True)
            if any(_meets(hunk, coming, 0) for hunk in moved)
        )
        place = bool(met)
        cost = sum(len(hunk.old) + len(hunk.new) for hunk in moved)
        if not moved or cost > self._distance:
            return Verdict(False, place, met=met)
        changed = applied(point.lines, moved)
        left = self._distance - cost
        if line_distance(changed, point.final, left) is None:
            return Verdict(False, place, met=met)
        sizes: dict[int, int] = {}
        for hunk in moved:
            # Equal lines around an insertion or deletion allow it a few lines away.
            slack = len(hunk.old) + len(hunk.new)
            names = [
                name
                for reach in (0, slack)
                for name, coming in zip(point.names, point.rest, strict=True)
                if _meets(hunk, coming, reach)
            ]
            for name in names[:1]:
                sizes[name] = sizes.get(name, 0) + len(hunk.old) + len(hunk.new)
        whole = {
            name
            for name, coming in zip(point.names, point.rest, strict=True)
            if sizes.get(name, 0) >= len(coming.old) + len(coming.new)
        }
        return Verdict(True, True, frozenset(sizes), frozenset(whole), met)


def _meets(hunk: LineHunk, coming: LineHunk, reach: int) -> bool:
    """Whether two hunks of one text change the same line, or insert at the same one."""
    if hunk.old and coming.old:
        return hunk.first < coming.end + reach and coming.first < hunk.end + reach
    return hunk.first <= coming.end + reach and coming.first <= hunk.end + reach
