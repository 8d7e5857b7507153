"""Replaying a commit: what comes next, and whether a proposal lies on the way to it."""

from __future__ import annotations

import pytest
from fim_training.corpus.line_diff import LineHunk
from fim_training.evaluation.edit_replay import Judge, points, shape_of
from fim_training.examples.hunk_sequences import HunkSequence

BEFORE = ("a", "b", "c", "d", "e", "f", "g", "")
HUNKS = (
    LineHunk(1, ("b",), ("B", "B2")),
    LineHunk(4, (), ("new",)),
    LineHunk(5, ("f", "g"), ("F",)),
)
SEQUENCE = HunkSequence("p", "c0", "a.py", "python", BEFORE, HUNKS)


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_hunk_is_made_once_and_the_end_is_the_commits(shuffled: bool) -> None:
    made = list(points(SEQUENCE, shuffled=shuffled, seed=3))
    assert [point.done for point in made] == [1, 2, 3]
    assert list(made[-1].lines) == SEQUENCE.after
    assert made[-1].rest == ()
    for point in made:
        for name, coming in zip(point.names, point.rest, strict=True):
            assert tuple(point.lines[coming.first : coming.end]) == coming.old
            assert coming.new == HUNKS[name].new


def test_the_shuffled_order_is_another_one() -> None:
    orders = {
        tuple(point.edit.new for point in points(SEQUENCE, shuffled=True, seed=seed))
        for seed in range(8)
    }
    assert len(orders) > 2


def test_a_proposal_is_right_if_every_line_lies_on_the_way() -> None:
    first, *_ = points(SEQUENCE, shuffled=False)  # the text is a B B2 c d e f g
    judge = Judge(first)
    insertion = judge.verdict(4, ("d",), ("d", "new"))
    assert insertion.right
    assert (insertion.touched, insertion.whole) == ({1}, {1})
    part = judge.verdict(6, ("f",), ("F",))
    assert part.right
    assert (part.touched, part.whole) == ({2}, frozenset()), "g is still to go"
    both = judge.verdict(4, ("d", "e", "f", "g"), ("d", "new", "e", "F"))
    assert (both.right, both.whole) == (True, {1, 2})


def test_a_proposal_is_wrong_if_one_line_does_not() -> None:
    first, *_ = points(SEQUENCE, shuffled=False)
    judge = Judge(first)
    mixed = judge.verdict(5, ("e", "f"), ("E", "F"))
    assert not mixed.right
    assert mixed.place, "something does change there"
    assert mixed.touched == frozenset()
    elsewhere = judge.verdict(0, ("a",), ("A",))
    assert (elsewhere.right, elsewhere.place) == (False, False)
    assert not judge.verdict(6, ("f",), ("F!",)).right
    assert not judge.verdict(0, ("a",), ("a",)).right, "nothing is proposed"


def test_any_of_several_shortest_diffs_will_do() -> None:
    """One of two equal lines goes: which one makes no difference."""
    hunks = LineHunk(0, ("a",), ("A",)), LineHunk(3, ("x",), ())
    twice = HunkSequence("p", "c", "a.py", "python", ("a", "b", "x", "x", ""), hunks)
    first, *_ = points(twice, shuffled=False)
    for line in (2, 3):
        verdict = Judge(first).verdict(line, ("x",), ())
        assert verdict.right
        assert verdict.touched == {1}


def test_shapes() -> None:
    assert [shape_of(hunk) for hunk in HUNKS] == ["other count", "insertion", "other count"]
    assert shape_of(LineHunk(0, ("a",), ())) == "deletion"
    assert shape_of(LineHunk(0, ("a",), ("b",))) == "same count"
