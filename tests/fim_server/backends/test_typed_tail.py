"""Healing by the server: where the prompt ends, and what its answer must begin with."""

from __future__ import annotations

import re

import pytest

from fim_server.backends import typed_tail


@pytest.mark.parametrize(
    ("prefix", "typed"),
    [
        ("def f(a):\n    retur", "\n    retur"),
        ("x = foo.ba", " foo.ba"),
        ("x = 1\n\n", "\n\n"),
        ("import", "import"),
        ("", ""),
        ("x = " + "a" * 100, ""),
        (" " * 100 + "a", ""),
    ],
)
def test_the_prompt_ends_before_the_last_word(prefix: str, typed: str) -> None:
    assert typed_tail.split(prefix) == (prefix.removesuffix(typed), typed)


@pytest.mark.parametrize("typed", ["\n    f(a[0]", " x.y*", "\\{a|b}^$?+/", "#-~ é"])
def test_the_answer_begins_with_what_was_typed(typed: str) -> None:
    one = typed_tail.constraint(typed, one_line=True)["structured_outputs"]["regex"]
    many = typed_tail.constraint(typed, one_line=False)["structured_outputs"]["regex"]
    for text in ("", ")", " + 1\n  \n"):
        assert re.fullmatch(one, typed + text)
    assert re.fullmatch(many, typed + "a\nb\n")
    for wrong in ("x" + typed, typed[:-1], typed[:-1] + "%"):
        assert not re.fullmatch(one, wrong)
    assert not re.fullmatch(one, typed + "a\nb"), "the line ends there"
