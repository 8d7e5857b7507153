"""Copies of text that followed the same context elsewhere: their sources and their ends."""

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


def test_the_rest_of_the_line_is_copied_from_a_matching_context() -> None:
    found = best(f"{BEFORE}third = read(pa", "\nend\n")
    assert found.text == "th, mode)"
    assert found.matched == len(" = read(pa")
    assert found.distance == len("th, mode)\nsecond = 2\nthird = read(pa")
    assert not found.elsewhere


def test_matches_after_the_cursor_are_copied_too() -> None:
    found = best("x = open(", "\nother = open(name, 'r')\n")
    assert found.text == "name, 'r')"
    assert found.distance == len("\nother = open(")


def test_copies_rank_by_match_length_then_suffix_then_distance() -> None:
    text = "a.send(1)\nb\nxa.send(2)\nc\nxa.send(3)\nd\n"
    assert best(f"{text}xa.send(", "\ne\n").text == "3)", "the nearer of two with all in common"
    follows = best(f"{text}xa.send(", "\nc\n")
    assert (follows.text, follows.behind) == ("2)", len("\nc\n"))


def test_shorter_matches_yield_further_copies() -> None:
    text = "a.send(1)\nb\nxa.send(2)\nc\n"
    found = copies(f"{text}xa.send(", "\ne\n")
    assert [(copy.text, copy.matched) for copy in found] == [
        ("2)", len("\nxa.send(")),
        ("1)", len("a.send(")),
    ]


def test_equal_copies_are_merged_and_counted() -> None:
    found = copies("f(one)\ng(one)\nf(two)\nh(one)\nf(", "\n")
    assert [(copy.text, copy.places) for copy in found] == [("two)", 1), ("one)", 3)]


def test_other_files_are_searched_but_this_one_is_preferred() -> None:
    elsewhere = "import os\nname = load(path, strict=True)\n"
    found = best("name = load(pa", "\n", elsewhere)
    assert (found.text, found.elsewhere, found.distance) == ("th, strict=True)", True, 0)
    both = copies("name = load(path)\nname = load(pa", "\n", [elsewhere])
    assert [(copy.text, copy.elsewhere) for copy in both[:2]] == [
        ("th, strict=True)", True),  # the match includes the newline before it
        ("th)", False),
    ]  # fmt: skip
    same = copies("\nname = load(path)\nname = load(pa", "\n", [f"\n{elsewhere}"])
    assert same[0].elsewhere is False


def test_a_copy_ends_with_its_file() -> None:
    assert copies("ab", "", ["xab", "y"]) == []


def test_no_copies_without_repetition() -> None:
    assert copies("", "abc") == []
    assert copies("q", "abc") == []
    assert copies("x\n\nx", "\n") == [], "an empty line is no candidate"


def test_within_a_line_a_copy_ends_at_the_rest_of_the_line() -> None:
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
def test_every_copy_follows_the_matched_text_somewhere(
    prefix: str, suffix: str, other: str, lines: int, limit: int
) -> None:
    found = copies(prefix, suffix, [other], lines=lines, limit=limit)
    assert len(found) <= limit
    assert len({copy.text for copy in found}) == len(found)
    for copy in found:
        tail = prefix[len(prefix) - copy.matched :]
        own = f"{tail}{copy.text}" in prefix or f"{tail}{copy.text}" in suffix
        assert tail
        assert f"{tail}{copy.text}" in other if copy.elsewhere else own
        assert copy.text.strip()
        assert copy.text.count("\n") < lines
        assert suffix[: copy.behind] in f"{prefix}\0{suffix}\0{other}"


def test_the_work_is_bounded_for_any_number_of_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_neighbouring_files_have_the_same_language_most_similar_names_first() -> None:
    names = ["b.py", "test_b.py", "test_a.txt", "test_aa.py", "a.py"]
    assert nearest_names("test_a.py", names) == ["test_aa.py", "test_b.py", "a.py", "b.py"]
    many = [f"{number}.py" for number in range(100)]
    assert len(nearest_names("x.py", many)) == MAX_FILES


def test_other_files_are_searched_within_a_limit() -> None:
    large = "x" * (MAX_CHARS - 10)
    assert within_reach(["1234", large, "y" * 20, "z"]) == ("1234", large, "z")
