"""Drafts of several rules as texts of a region."""

from __future__ import annotations

from fim_server.edits.rules.drafts import (
    MAX_REGION_DRAFTS,
    Candidate,
    LineEdit,
    applied,
    region_drafts,
)


def candidate(odds: float, *edits: LineEdit, about: str = "") -> Candidate:
    why = f"why {odds}"
    return Candidate(edits[0].line, edits[-1].line + 1, edits, why, "rule", odds, about)


def test_drafts_are_bounded_and_the_likely_ones_come_together() -> None:
    lines = ["a b c", "a"]
    many = [candidate(1.0 - n / 100, LineEdit(5, 4, 5, f"C{n}")) for n in range(20)]
    first = candidate(3.0, LineEdit(5, 0, 1, "A"), LineEdit(6, 0, 1, "A"))
    found = region_drafts(lines, 5, [*many, first])
    assert len(found) == MAX_REGION_DRAFTS
    assert [draft.text for draft in found[:2]] == ["A b C0\nA", "a b C1\na"]
    assert found[0].odds == 1.0, "both must be right"
    assert region_drafts(lines, 5, []) == []


def test_an_unlikely_draft_spoils_no_likely_one() -> None:
    likely, unlikely = (
        candidate(2.0, LineEdit(0, 0, 1, "A")),
        candidate(-1.0, LineEdit(0, 2, 3, "B")),
    )
    found = region_drafts(["a b"], 0, [unlikely, likely])
    assert [(draft.text, draft.odds) for draft in found] == [("A b", 2.0), ("a B", -1.0)]


def test_of_drafts_about_the_same_thing_one_is_applied() -> None:
    twice = [candidate(2.0 - at, LineEdit(0, at, at, "x"), about="x") for at in range(2)]
    assert region_drafts(["ab"], 0, twice)[0].text == "xab"


def test_edits_of_lines() -> None:
    assert (
        applied(["ab", "cd"], 1, [LineEdit(1, 1, 1, "-"), LineEdit(2, 2, 2, "\ne")]) == "a-b\ncd\ne"
    )
    assert applied(["ab", "cd"], 1, [LineEdit(1, 0, 2, "", drops=True)]) == "cd"
    assert applied(["ab", "cd"], 1, [LineEdit(1, 0, 1, "", drops=True)]) == "b\ncd"
