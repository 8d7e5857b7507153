"""What stands around the cursor already is never suggested again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fim_server.completion.trim import trim, unmatched_brackets


@pytest.mark.parametrize(
    ("before", "text", "after", "shown"),
    [
        # nothing to cut
        ("x = ", "1", "", "1"),
        ("x = ", "f(1)", "\ny = 2\n", "f(1)"),
        ("def f():", "\n    return 1", "\n", "\n    return 1"),
        # blank ends, blank answers
        ("x = ", "1  \n\n", "\n", "1"),
        ("x = ", " \n\t", "", ""),
        ("x = ", "", "", ""),
        ("x = ", "1 ", " # one", "1"),
        ("x = ", "a + ", "b", "a + "),
        # the rest of the line
        ("print(", "x)", ")", "x"),
        ("f(", "a, b)", ", b)", "a"),
        ("f(", "a, ", ", b)", "a"),
        ('print("', 'hello")', '")', "hello"),
        ('print("', 'hello"', '")', "hello"),
        ("f(", "x)", " )", "x"),
        ("f(", "x)", ")  # call", "x"),
        ("f(", ")", ")", ""),
        ("if ", "a:", ":", "a"),
        # brackets decide: these closing ones are the answer's own
        ("f(g", "()", ")", "()"),
        ("f(", "g(x)", ")", "g(x)"),
        ("f(", "g(x))", ")", "g(x)"),
        ("f(g(", "x))", "))", "x"),
        ("a[", "b[0]", "]", "b[0]"),
        # an overlap never begins inside a word
        ("for x i", "nn", "n y:", "nn"),
        ("self.", "name", "e_of", "name"),
        # between two pieces of a line there is one line
        ("f(", "a,\n  b", ")", "a,"),
        # following lines
        ("", "x = 1\nreturn x", "\nreturn x\n", "x = 1"),
        ("    ", "x = 1\n    return x\n", "\n\n    return x\n", "x = 1"),
        ("f(\n    ", "a,\n)", "\n)\n", "a,"),
        ("    ", "if a:\n        b\n    c\n    d", "\n    c\n    d\n    e", "if a:\n        b"),
        # the same text at another depth is no repetition
        ("{\n  {\n    ", "a\n  }", "\n}\n", "a\n  }"),
        # a suggestion that only repeats what follows
        ("    ", "return x", "\n    return x\n", ""),
        ("    ret", "urn x", "\n\n    return x\n", ""),
        ("", "a = 1\nb = 2", "\na = 1\nb = 2\nc = 3\n", ""),
        ("  ", "}", "\n}\n", "}"),
        ("", "}", "\n}\n", ""),
    ],
)
def test_trim(before: str, text: str, after: str, shown: str) -> None:
    assert trim(text, before, after) == shown


def test_foreign_line_ends_become_plain() -> None:
    assert trim("a\r\nb\rc", "", "") == "a\nb\nc"


code = st.text(alphabet="ab_ (){}[]\n\"',:", max_size=24)


@given(before=code, text=code, after=code)
def test_an_answer_is_only_ever_cut_at_its_end(before: str, text: str, after: str) -> None:
    shown = trim(text, before, after)
    assert text.startswith(shown) or "\n".join(
        line.rstrip() for line in text.split("\n")
    ).startswith(shown)
    assert shown == "" or shown.strip()
    assert not shown.endswith("\n")


def test_unmatched_brackets_counts_both_kinds() -> None:
    assert unmatched_brackets("f(a[0])") == 0
    assert unmatched_brackets("f(a[0]") == 1
    assert unmatched_brackets("a)) + (") == 3
    assert unmatched_brackets("(]") == 2
