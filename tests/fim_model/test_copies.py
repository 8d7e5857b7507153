"""Copies of what stood behind the same text: where they come from, and where they end."""

from __future__ import annotations

import pytest
from fim_model import copies as module
from fim_model.copies import (
    LONGEST_MATCH,
    MAX_CHARS,
    MAX_COPIES,
    MAX_FILES,
    MAX_PLACES,
    Copied,
    copies,
    nearest_names,
    within_reach,
)
from hypothesis import given
from hypothesis import strategies as st

BEFORE = "first = read(path, mode)\nsecond = 2\n"


def best(prefix: str, suffix: str, *others: str, lines: int = 1) -> Copied:
    return copies(prefix, suffix, others, lines=lines)[0]


def test_the_rest_of_the_line_is_copied_from_where_the_same_text_stood() -> None:
    found = best(f"{BEFORE}third = read(pa", "\nend\n")
    assert found.text == "th, mode)"
    assert found.matched == len(" = read(pa")
    assert found.distance == len("th, mode)\nsecond = 2\nthird = read(pa")
    assert not found.elsewhere


def test_what_stands_behind_the_cursor_is_copied_too() -> None:
    found = best("x = open(", "\nother = open(name, 'r')\n")
    assert found.text == "name, 'r')"
    assert found.distance == len("\nother = open(")


def test_the_longest_match_decides_then_what_follows_then_what_is_near() -> None:
    text = "a.send(1)\nb\nxa.send(2)\nc\nxa.send(3)\nd\n"
    assert best(f"{text}xa.send(", "\ne\n").text == "3)", "the nearer of two with all in common"
    follows = best(f"{text}xa.send(", "\nc\n")
    assert (follows.text, follows.behind) == ("2)", len("\nc\n"))


def test_shorter_matches_have_other_copies() -> None:
    text = "a.send(1)\nb\nxa.send(2)\nc\n"
    found = copies(f"{text}xa.send(", "\ne\n")
    assert [(one.text, one.matched) for one in found] == [
        ("2)", len("\nxa.send(")),
        ("1)", len("a.send(")),
    ]


def test_places_with_the_same_text_are_one_copy_that_counts_them() -> None:
    found = copies("f(one)\ng(one)\nf(two)\nh(one)\nf(", "\n")
    assert [(one.text, one.places) for one in found] == [("two)", 1), ("one)", 3)]


def test_another_file_is_copied_from_and_this_one_is_preferred() -> None:
    elsewhere = "import os\nname = load(path, strict=True)\n"
    found = best("name = load(pa", "\n", elsewhere)
    assert (found.text, found.elsewhere, found.distance) == ("th, strict=True)", True, 0)
    both = copies("name = load(path)\nname = load(pa", "\n", [elsewhere])
    assert [(one.text, one.elsewhere) for one in both[:2]] == [
        ("th, strict=True)", True),  # with the newline before it, more is alike
        ("th)", False),
    ]  # fmt: skip
    same = copies("\nname = load(path)\nname = load(pa", "\n", [f"\n{elsewhere}"])
    assert same[0].elsewhere is False


def test_a_copy_does_not_go_on_in_the_next_file() -> None:
    assert copies("ab", "", ["xab", "y"]) == []


def test_nothing_repeats() -> None:
    assert copies("", "abc") == []
    assert copies("q", "abc") == []
    assert copies("x\n\nx", "\n") == [], "an empty line is no candidate"


def test_inside_a_line_a_copy_ends_where_the_rest_of_the_line_begins() -> None:
    text = "call(one, two)\nother\n"
    found = best(f"{text}call(", ")\n")
    assert found.text == "one, two"
    assert found.behind == 2
    assert copies(f"{text}call(", "]\n") == [], "no line there ends like this one"


def test_several_lines_can_be_copied() -> None:
    assert best("try:\n    a\n    b\n\ntry:", "\nend", lines=3).text == "\n    a\n    b"


@given(
    prefix=st.text("ab\n ", max_size=60), suffix=st.text("ab\n )", max_size=60),
    other=st.text("ab\n", max_size=40), lines=st.integers(1, 3), limit=st.integers(1, 6),
)  # fmt: skip
def test_a_copy_stands_somewhere_behind_the_same_text(
    prefix: str, suffix: str, other: str, lines: int, limit: int
) -> None:
    found = copies(prefix, suffix, [other], lines=lines, limit=limit)
    assert len(found) <= limit
    assert len({one.text for one in found}) == len(found)
    for one in found:
        tail = prefix[len(prefix) - one.matched :]
        own = f"{tail}{one.text}" in prefix or f"{tail}{one.text}" in suffix
        assert tail
        assert f"{tail}{one.text}" in other if one.elsewhere else own
        assert one.text.strip()
        assert one.text.count("\n") < lines
        assert suffix[: one.behind] in f"{prefix}\0{suffix}\0{other}"


def test_the_work_is_bounded_however_often_a_text_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    end_of_lines = module._end_of_lines

    def counted(text: str, start: int, lines: int) -> int:
        looked_at.append(start)
        return end_of_lines(text, start, lines)

    monkeypatch.setattr(module, "_end_of_lines", counted)
    prefix = "self.x\n" * 5000 + "self."
    found = copies(prefix, "\n" + "self.x\n" * 5000)
    assert found[0].text == "x"
    assert found[0].matched <= LONGEST_MATCH
    halvings = LONGEST_MATCH.bit_length()
    assert len(looked_at) <= 2 * MAX_PLACES * halvings
    assert len(found) <= MAX_COPIES


def test_files_beside_are_those_of_the_same_kind_the_likest_names_first() -> None:
    names = ["b.py", "test_b.py", "test_a.txt", "test_aa.py", "a.py"]
    assert nearest_names("test_a.py", names) == ["test_aa.py", "test_b.py", "a.py", "b.py"]
    many = [f"{number}.py" for number in range(100)]
    assert len(nearest_names("x.py", many)) == MAX_FILES


def test_other_files_are_searched_as_far_as_they_fit() -> None:
    large = "x" * (MAX_CHARS - 10)
    assert within_reach(["1234", large, "y" * 20, "z"]) == ("1234", large, "z")
