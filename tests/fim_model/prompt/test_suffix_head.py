"""A hole that has run into its suffix ends where the suffix begins."""

from __future__ import annotations

import re

import pytest
from fim_model.prompt.suffix_head import LEAST_INK, SuffixHead
from hypothesis import given
from hypothesis import strategies as st

BELOW = "\n    return sorted(found)\n\n\ndef other():\n"


@pytest.mark.parametrize(
    ("suffix", "text", "kept"),
    [
        (BELOW, "\n    found = []\n    return sorted(found)\n", "\n    found = []"),
        (BELOW, "\n    found = []\n\n    return sorted(found)  \n", "\n    found = []"),
        (BELOW, "\n    return sorted(found)\n    x = 1\n", ""),
        ("    return sorted(x)\n", "    x = []\n    return sorted(x)\n", "    x = []\n"),
        (" for name in names)\n    x\n", "len(name) for name in names)\n    x = 1\n", "len(name)"),
        (":\n        counter += 1\n", " in word:\n        counter += 1\n", " in word"),
    ],
)  # fmt: skip
def test_the_text_before_the_suffix_is_kept(suffix: str, text: str, kept: str) -> None:
    assert SuffixHead(suffix).cut(text) == kept


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (BELOW, "\n    found = []\n    return sorted(found)"),
        (BELOW, "\n    found = []\n    return sorted(found, key=len)\n"),
        (BELOW, "\n    for x in y:\n        return sorted(found)\n"),
        (":\n        counter += 1\n", " in word:\n        counters += 1\n"),
        ("\n    }\n}\n", "\n    }\n}\n"),
        ("\n    else:\n", "\n    else:\n        x\n"),
        ("\n# ----------------------\n", "\n# ----------------------\n"),
        ("", "x\n"),
        ("\n", "x\n"),
    ],
    ids=[
        "an unfinished line", "it goes on", "deeper", "the second line differs", "brackets alone",
        "too little", "no words", "no suffix", "a blank suffix",
    ],
)  # fmt: skip
def test_other_text_stays(suffix: str, text: str) -> None:
    assert SuffixHead(suffix).start_in(text) is None
    assert SuffixHead(suffix).cut(text) == text


def test_a_suffix_with_an_endless_first_line_costs_nothing() -> None:
    assert SuffixHead("x1 = [" + "1, " * 100_000 + "]\n").start_in("x1 = [" + "1, " * 1000) is None


@given(st.text("ab ():\n", max_size=60), st.text("ab ():\n", max_size=60))
def test_what_is_kept_is_the_beginning_and_the_suffix_follows(text: str, suffix: str) -> None:
    at = SuffixHead(suffix).start_in(text)
    if at is not None:
        follows = "".join(text[at:].split())
        begins = "".join(suffix.split())
        assert follows[:LEAST_INK] == begins[:LEAST_INK]
        assert re.search(r"\w", begins)


@given(st.text("ab ():\n", max_size=40), st.text("ab ():\n", max_size=40), st.integers(0, 40))
def test_what_is_settled_is_not_cut_whatever_follows(text: str, suffix: str, at: int) -> None:
    head = SuffixHead(suffix)
    for whole in (text, text[:at] + suffix + "\n"):
        settled = head.settled(whole[:at])
        assert whole.startswith(settled)
        assert head.cut(whole).startswith(settled)


def test_all_but_a_beginning_of_the_suffix_is_settled() -> None:
    head = SuffixHead(BELOW)
    assert head.settled("\n    found = []\n    return") == "\n    found = []"
    assert head.settled("\n    found = []\n    return list") == "\n    found = []\n    return list"
    assert head.settled("\n    found = [] \n") == "\n    found = []"
    assert SuffixHead("").settled("x \n") == "x \n"
