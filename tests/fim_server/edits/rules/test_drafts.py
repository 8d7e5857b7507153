"""Drafts of several rules as texts of a region."""

from __future__ import annotations

from fim_server.edits.rules.drafts import (
    MAX_REGION_DRAFTS,
    Draft,
    LineEdit,
    applied,
    region_drafts,
)


def test_drafts_are_bounded_and_the_joint_one_comes_first() -> None:
    lines = ["a b c", "a"]
    many = [Draft((LineEdit(5, 4, 5, f"C{n}"),), "c", 1.0 - n / 100) for n in range(20)]
    both = [Draft((LineEdit(5, 0, 1, "A"), LineEdit(6, 0, 1, "A")), "a", 3.0), *many]
    found = region_drafts(lines, 5, both)
    assert len(found) == MAX_REGION_DRAFTS
    assert [draft.text for draft in found[:2]] == ["A b C0\nA", "A b c\nA"]
    assert region_drafts(lines, 50, both) == []


def test_edits_of_lines() -> None:
    assert (
        applied(["ab", "cd"], 1, [LineEdit(1, 1, 1, "-"), LineEdit(2, 2, 2, "\ne")]) == "a-b\ncd\ne"
    )
    assert applied(["ab", "cd"], 1, [LineEdit(1, 0, 2, "", drops=True)]) == "cd"
    assert applied(["ab", "cd"], 1, [LineEdit(1, 0, 1, "", drops=True)]) == "b\ncd"
