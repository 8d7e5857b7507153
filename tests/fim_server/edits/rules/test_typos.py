"""Rule: corrections of misspelt names."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

from fim_server.edits.rules.typos import is_typo

expected = partial(edit_pages.expected, rules=("typos",))


def test_a_name_is_corrected_once_the_cursor_has_left_its_line() -> None:
    text = "counter = 1\n\n\nx = conuter\n"
    assert expected(text, (3, ""), cursor=3) == {}
    assert expected(text, (3, ""), cursor=1) == {3: ["x = counter"]}
    assert expected("value = 1\n\nvalues = [value]\n", (2, ""), cursor=0) == {}, "a new name"
    renamed = "def f(vlaue):\n    return value\n"
    assert expected(renamed, (0, "def f(x):"), cursor=1)[0] == ["def f(value):"]


@pytest.mark.parametrize(
    ("typed", "meant", "typo"),
    [("hte", "the", True), ("lenght", "length", True), ("conter", "counter", True),
     ("couunter", "counter", True), ("countor", "counter", True), ("rows", "row", False),
     ("Row", "row", False), ("x1", "x2", False), ("a", "b", True), ("total", "amount", False),
     ("", "a", False)],
)  # fmt: skip
def test_typos(typed: str, meant: str, typo: bool) -> None:
    assert is_typo(typed, meant) is typo
