"""Edits of real commits: what the user has done so far, and what the commit makes of a region.

Some hunks of a commit are made, as the recent edits, and the region is that of another one. In a
third of the cases the region is one near by that the commit leaves as it is: the model repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from textwrap import dedent

from fim_training.corpus.line_diff import LineHunk, applied
from fim_training.examples.hunk_sequences import HunkSequence, read_sequences
from fim_training.examples.synthetic_edits import REACH, EditCase, case_of_region

UNCHANGED_SHARE = 1 / 3
MOST_EDITS = 3


class RealEdits:
    """Cases drawn from the hunk sequences of commits, each project as often as every other."""

    def __init__(self, sequences: Sequence[HunkSequence]) -> None:
        """Raises ValueError if there are none."""
        self._projects: dict[str, list[HunkSequence]] = {}
        for sequence in sequences:
            self._projects.setdefault(sequence.project, []).append(sequence)
        if not self._projects:
            raise ValueError("no hunk sequences")

    @classmethod
    def read(cls, path: Path) -> RealEdits:
        """From a file that `examples.hunk_sequences` wrote.

        Raises OSError for a file that cannot be read, and ValueError for one of something else.
        """
        return cls(list(read_sequences(path)))

    def draw(self, rng: Random) -> tuple[str, EditCase] | None:
        """A file's path and a case in it; None where the commit leaves nothing to draw."""
        sequence = rng.choice(self._projects[rng.choice(list(self._projects))])
        order = list(sequence.hunks)
        if rng.random() < 0.5:
            rng.shuffle(order)
        made = rng.randint(1, len(order) - 1)
        done, left = order[:made], order[made:]
        chosen = rng.choice(left) if rng.random() < 0.5 else left[0]
        lines = applied(sequence.before, sorted(done, key=lambda hunk: hunk.first))
        ahead = [_shifted(hunk, done) for hunk in left]
        edits = [edit for hunk in done for edit in _as_edits(hunk)][-MOST_EDITS:]
        if rng.random() < UNCHANGED_SHARE:
            chosen = LineHunk(_near(_shifted(done[-1], done[:-1]).first, lines, rng), (), ())
        else:
            chosen = _shifted(chosen, done)
        first, end = _region(chosen, lines, rng)
        if any(first < hunk.end and hunk.first < end for hunk in ahead if hunk != chosen):
            return None
        if any(not hunk.old and first < hunk.first < end for hunk in ahead if hunk != chosen):
            return None
        new = [*lines[first : chosen.first], *chosen.new, *lines[chosen.end : end]]
        if not new or not any(line.strip() for line in lines[first:end]):
            return None
        return sequence.path, case_of_region("commit", lines, first, end, new, edits)


def _shifted(hunk: LineHunk, done: Sequence[LineHunk]) -> LineHunk:
    """The hunk where it stands once others are made."""
    by = sum(len(other.new) - len(other.old) for other in done if other.first < hunk.first)
    return LineHunk(hunk.first + by, hunk.old, hunk.new)


def _near(line: int, lines: Sequence[str], rng: Random) -> int:
    return rng.randint(max(line - REACH, 0), min(line + REACH, len(lines)))


def _region(hunk: LineHunk, lines: Sequence[str], rng: Random) -> tuple[int, int]:
    """The lines of a hunk, at least one, and sometimes lines beside them."""
    first = max(hunk.first - rng.choice((0, 0, 0, 1, 2)), 0)
    end = min(hunk.end + rng.choice((0, 0, 0, 1, 2)), len(lines))
    if first == end:
        first = max(first - 1, 0)
    return first, max(end, first + 1)


def _as_edits(hunk: LineHunk) -> list[tuple[str, str]]:
    """Each changed line by itself where old and new lines pair up, else one block, as the server
    tells them (`fim_server.edits.history.Hunk.past_edits`)."""
    if len(hunk.old) == len(hunk.new):
        pairs = zip(hunk.old, hunk.new, strict=True)
        return [(old.strip(), new.strip()) for old, new in pairs if old != new]
    return [(dedent("\n".join(hunk.old)).strip(), dedent("\n".join(hunk.new)).strip())]
