"""Training cases of real commits: what is shown as done, and what the region becomes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from fim_training.corpus.line_diff import LineHunk, line_hunks
from fim_training.examples.hunk_sequences import HunkSequence
from fim_training.examples.real_edits import RealEdits
from hypothesis import given
from hypothesis import strategies as st

BEFORE = tuple(f"    line_{n} = {n}" for n in range(40))


def sequence(*hunks: LineHunk, before: tuple[str, ...] = BEFORE) -> HunkSequence:
    return HunkSequence("p", "c", "p/a.py", "python", before, hunks)


RENAMED = LineHunk(3, BEFORE[3:4], ("    name_3 = 3",))
INSERTED = LineHunk(10, (), ("    new = 1", "    more = 2"))
DELETED = LineHunk(30, BEFORE[30:31], ())


def drawn(*hunks: LineHunk, count: int = 200) -> list:  # type: ignore[type-arg]
    edits = RealEdits([sequence(*hunks)])
    cases = [edits.draw(Random(seed)) for seed in range(count)]
    return [case for found in cases if found is not None for case in [found[1]]]


def test_the_edits_are_told_as_the_server_tells_them() -> None:
    told = {edit for case in drawn(RENAMED, INSERTED, DELETED) for edit in case.edits}
    assert told == {
        ("line_3 = 3", "name_3 = 3"),
        ("", "new = 1\nmore = 2"),
        ("line_30 = 30", ""),
    }


def test_a_third_of_the_regions_stay_as_they_are() -> None:
    cases = drawn(RENAMED, INSERTED, DELETED, count=600)
    same = sum(case.old == case.new for case in cases)
    assert len(cases) > 400
    assert 0.2 < same / len(cases) < 0.5
    assert all((case.kind == "none") == (case.old == case.new) for case in cases)


LINES = st.lists(st.sampled_from("abcdef"), min_size=8, max_size=30)


@given(LINES, LINES, st.randoms(use_true_random=False))
def test_what_is_made_lies_between_before_and_after(
    before: list[str], after: list[str], rng: Random
) -> None:
    hunks = line_hunks(before, after, 100)
    if hunks is None or len(hunks) < 2:
        return
    commit = sequence(*hunks, before=tuple(before))
    found = RealEdits([commit]).draw(rng)
    if found is None:
        return
    path, case = found
    now = (case.prefix + case.old + case.suffix).split("\n")
    then = (case.prefix + case.new + case.suffix).split("\n")
    to_go = line_hunks(now, commit.after, 200)
    left = line_hunks(then, commit.after, 200)
    assert path == "p/a.py"
    assert to_go is not None
    assert left is not None
    changed = sum(len(hunk.old) + len(hunk.new) for hunk in to_go)
    still = sum(len(hunk.old) + len(hunk.new) for hunk in left)
    assert still <= changed if case.old == case.new else still < changed


def test_no_sequences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no hunk sequences"):
        RealEdits([])
    with pytest.raises(OSError, match=r"nothing\.gz"):
        RealEdits.read(tmp_path / "nothing.gz")
