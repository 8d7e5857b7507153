"""Persistent lines: like a list, but a change touches few of them and shares the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fim_server.documents import lines as lines_module
from fim_server.documents.lines import Lines, _Node, changed_ranges, common_ends

Splices = list[tuple[int, int, list[str]]]
SPLICES = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.integers(0, 40),
        st.lists(st.sampled_from(["a\n", "b\n", "\n"]), max_size=30),
    ),
    max_size=12,
)


@pytest.fixture(autouse=True, scope="module")
def narrow() -> object:
    """Nodes of four parts, so that few lines make a high tree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "WIDTH", 4)
        patch.setattr(lines_module, "_MIN_WIDTH", 2)
        yield None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 80), SPLICES)
def test_spliced_like_a_list(size: int, splices: Splices) -> None:
    plain = [f"{number}\n" for number in range(size)]
    tree = Lines(plain)
    versions = [(tree, list(plain))]
    for start, length, new in splices:
        first = min(start, len(plain))
        end = min(first + length, len(plain))
        plain[first:end] = new
        tree = tree.spliced(first, end, new)
        versions.append((tree, list(plain)))
    for version, expected in versions:
        assert list(version) == expected
        assert len(version) == len(expected)
        assert version.characters == sum(map(len, expected))
        assert [version[at] for at in range(len(expected))] == expected
        for at in range(0, len(expected) + 2, 3):
            assert version[at : at + 7] == expected[at : at + 7]
            assert list(version.upward(at)) == expected[:at][::-1]
            assert list(version.downward(at)) == expected[at:]
        assert version[::-2] == expected[::-2]
        _check(version._root)
    for old, _ in versions:
        ranges = changed_ranges(old, tree)
        rebuilt = list(old)
        for first, end, new_first, new_end in reversed(ranges):
            rebuilt[first:end] = tree[new_first:new_end]
        assert rebuilt == plain
        assert (old == tree) == (list(old) == plain)


def _check(node: _Node) -> None:
    """Every node is at most four wide, and its parts have one height."""
    assert len(node.parts) <= 4
    for part in node.parts if node.height else ():
        assert part.height == node.height - 1
        assert part.size > 0
        _check(part)


def test_what_differs_is_found_at_its_place() -> None:
    before = Lines(f"{number}\n" for number in range(1000))
    after = before.spliced(700, 701, ["x\n", "y\n"]).spliced(20, 22, []).spliced(400, 400, ["z\n"])
    assert changed_ranges(before, after) == [
        (20, 22, 20, 20),
        (402, 402, 400, 401),
        (700, 701, 699, 701),
    ]
    assert changed_ranges(before, before) == []


def test_it_stays_low_after_deleting_nearly_everything() -> None:
    tree = Lines(f"{number}\n" for number in range(4000))
    while len(tree) > 9:
        tree = tree.spliced(3, 7, [])
    assert tree._root.height <= 2


def test_indices_outside_are_refused() -> None:
    tree = Lines(["a\n", ""])
    assert tree[-1] == ""
    for at in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            tree[at]


def test_common_ends() -> None:
    assert common_ends([], []) == (0, 0)
    assert common_ends(["a"], ["a", "a"]) == (1, 0)
    assert common_ends(["a", "b", "c"], ["a", "x", "c"]) == (1, 1)
    assert common_ends(["a", "a"], ["a"]) == (1, 0)
