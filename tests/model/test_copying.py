"""Copies of what stood behind the same text: where they come from, and where they end."""

from __future__ import annotations

import pytest
from fim_model.copying import LONGEST_MATCH, MOST_PLACES, Copied, copied
from hypothesis import given
from hypothesis import strategies as st

BEFORE = "first = read(path, mode)\nsecond = 2\n"


def test_the_rest_of_the_line_is_copied_from_where_the_same_text_stood() -> None:
    found = copied(f"{BEFORE}third = read(pa", "\nend\n")
    assert found is not None
    assert found.text == "th, mode)"
    assert found.matched == len(" = read(pa")
    assert found.distance == len("th, mode)\nsecond = 2\nthird = read(pa")


def test_what_stands_behind_the_cursor_is_copied_too() -> None:
    found = copied("x = open(", "\nother = open(name, 'r')\n")
    assert found is not None
    assert found.text == "name, 'r')"
    assert found.distance == len("\nother = open(")


def test_the_longest_match_decides_then_what_follows_then_what_is_near() -> None:
    text = "a.send(1)\nb\nxa.send(2)\nc\nxa.send(3)\nd\n"
    longest = copied(f"{text}xa.send(", "\ne\n")
    assert longest is not None
    assert longest.text == "3)", "the nearer of two whose whole tail matches"
    follows = copied(f"{text}xa.send(", "\nc\n")
    assert follows is not None
    assert (follows.text, follows.behind) == ("2)", len("\nc\n"))


def test_nothing_repeats() -> None:
    assert copied("", "abc") is None
    assert copied("q", "abc") is None


def test_inside_a_line_a_copy_ends_where_the_rest_of_the_line_begins() -> None:
    text = "call(one, two)\nother\n"
    found = copied(f"{text}call(", ")\n")
    assert found is not None
    assert found.text == "one, two"
    assert found.behind == 2
    assert copied(f"{text}call(", "]\n") is None, "no line there ends like this one"


def test_several_lines_can_be_copied() -> None:
    found = copied("try:\n    a\n    b\n\ntry:", "\nend", lines=3)
    assert found is not None
    assert found.text == "\n    a\n    b"


@given(
    prefix=st.text("ab\n ", max_size=60), suffix=st.text("ab\n )", max_size=60),
    lines=st.integers(1, 3),
)  # fmt: skip
def test_a_copy_is_in_the_file_behind_the_same_text(prefix: str, suffix: str, lines: int) -> None:
    found = copied(prefix, suffix, lines)
    if found is None:
        return
    tail = prefix[len(prefix) - found.matched :]
    assert tail
    assert f"{tail}{found.text}" in prefix or f"{tail}{found.text}" in suffix
    assert found.text.count("\n") < lines
    assert suffix[: found.behind] in f"{prefix}\0{suffix}"


def test_the_work_is_bounded_however_often_a_text_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    from fim_model import copying

    end_of_lines = copying._end_of_lines

    def counted(text: str, start: int, lines: int) -> int:
        looked_at.append(start)
        return end_of_lines(text, start, lines)

    monkeypatch.setattr(copying, "_end_of_lines", counted)
    prefix = "self.x\n" * 5000 + "self."
    found = copied(prefix, "\n" + "self.x\n" * 5000)
    assert isinstance(found, Copied)
    assert found.text == "x"
    assert found.matched <= LONGEST_MATCH
    assert len(looked_at) <= 2 * MOST_PLACES
