"""Rule: an argument added to or removed from one call, at the other calls."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

expected = partial(edit_pages.expected, rules=("call_arguments", "call_sites"))


@pytest.mark.parametrize(
    ("text", "old", "wanted"),
    [
        ("f(1, x)\n\nf(2)\n", "f(1)", "f(2, x)"),
        ("f(x, 1)\n\ny = f(2) + 1\n", "f(1)", "y = f(x, 2) + 1"),
        ("f(1)\n\nf(2, y)\n", "f(1, x)", "f(2)"),
        ("f(x)\n\nf()\n", "f()", "f(x)"),
        ("def f(a, b): pass\n\nf(1)\nb = 2\n", "def f(a): pass", "f(1, b)"),
        ("a.f(x, 1)\n\na.f(2,\n    3)\n", "a.f(1)", "a.f(x, 2,"),
        ("f(g(1, 2), x)\n\nf([1, 2])\n", "f(g(1, 2))", "f([1, 2], x)"),
    ],
)
def test_an_added_or_removed_argument(text: str, old: str, wanted: str) -> None:
    assert wanted in expected(text, (0, old))[2]


@pytest.mark.parametrize(
    ("text", "old"),
    [
        ("def f(a, b=1): pass\n\nf(1)\n", "def f(a): pass"),
        ("a.f(1, x)\n\nb.f([2])\n", "a.f(1)"),
        ("f(1, x)\n\nf(2, x)\n", "f(1)"),
        ("f(1, x)\n\n# call f(2)\n", "f(1)"),
        ("f(1, x)\n\ng(2)\n", "f(1)"),
    ],
)
def test_calls_that_need_no_change(text: str, old: str) -> None:
    assert expected(text, (0, old)) == {}
