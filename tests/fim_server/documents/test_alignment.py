"""Alignments are right, shortest where they can be, and bounded for any sequences."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from difflib import SequenceMatcher

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fim_server.documents.alignment import MAX_STEPS, differences, opcodes

ELEMENTS = st.lists(st.sampled_from("abcd"), max_size=24)


def distance(old: list[str], new: list[str]) -> int:
    """The fewest insertions and deletions, by the textbook recurrence."""
    row = list(range(len(new) + 1))
    for at, element in enumerate(old, 1):
        above, row = row, [at]
        for place, other in enumerate(new, 1):
            same = above[place - 1] if element == other else len(old) + len(new)
            row.append(min(same, above[place] + 1, row[-1] + 1))
    return row[-1]


@settings(max_examples=400, deadline=None)
@given(ELEMENTS, ELEMENTS)
def test_it_is_right_and_shortest(old: list[str], new: list[str]) -> None:
    rebuilt = list(old)
    found = differences(old, new)
    for low, high, from_, to in reversed(found):
        rebuilt[low:high] = new[from_:to]
    assert rebuilt == new
    assert sum(high - low + to - from_ for low, high, from_, to in found) == distance(old, new)
    assert all(a[1] < b[0] or a[3] < b[2] for a, b in itertools.pairwise(found))


@settings(max_examples=100, deadline=None)
@given(ELEMENTS, ELEMENTS)
def test_opcodes_are_those_of_difflib_in_form(old: list[str], new: list[str]) -> None:
    ours = opcodes(old, new)
    theirs = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for codes in (ours, theirs):
        assert "".join("".join(old[code[1] : code[2]]) for code in codes) == "".join(old)
        assert "".join("".join(new[code[3] : code[4]]) for code in codes) == "".join(new)
        for tag, low, high, from_, to in codes:
            assert (tag == "equal") == (old[low:high] == new[from_:to])
            assert (tag == "insert") == (low == high)
            assert (tag == "delete") == (from_ == to)


def test_unique_elements_divide_what_is_too_different() -> None:
    old = [f"{number} {kind}" for number in range(600) for kind in ("kept", "old")]
    new = [f"{number} {kind}" for number in range(600) for kind in ("kept", "new")]
    assert len(differences(old, new)) == 600


def counted(work: Callable[[], object]) -> int:
    """The lines of Python run."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(before)
    return count


RANDOM = random.Random(1)
SHAPES: dict[str, tuple[list[str], list[str]]] = {
    "ones": (["1", ",", " "] * 10_000, ["1", ",", " "] * 5000 + ["2"] + ["1", ",", " "] * 6000),
    "shifted": (["a", "b"] * 8000, ["b", "a"] * 9000),
    "nothing in common": (["a"] * 20_000, ["b"] * 20_000),
    "shuffled": (RANDOM.choices("abc", k=12_000), RANDOM.choices("abc", k=12_000)),
    "reversed": ([str(n) for n in range(9000)], [str(n) for n in range(9000, 0, -1)]),
    "ends differ": (["x", *"ab" * 9000, "y"], ["y", *"ab" * 9000, "z"]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_is_bounded(shape: str) -> None:
    old, new = SHAPES[shape]
    found: list[tuple[int, int, int, int]] = []
    lines = counted(lambda: found.extend(differences(old, new)))
    assert lines < 15 * MAX_STEPS + 30 * (len(old) + len(new)), "linear beside the steps"
    rebuilt = list(old)
    for low, high, from_, to in reversed(found):
        rebuilt[low:high] = new[from_:to]
    assert rebuilt == new
