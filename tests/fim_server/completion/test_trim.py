"""Suggestions never repeat the text around the cursor."""

from __future__ import annotations

import pytest
from fim_model.requests import CompletionItem
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.completion.gate import judge_item
from fim_server.completion.hole import Hole
from fim_server.completion.scope import within_scope
from fim_server.completion.silence import Silence
from fim_server.completion.trim import repeats_itself, repeats_previous_lines, unmatched_brackets
from fim_server.documents.documents import Place


def judged(text: str, before: str, after: str, confidence: float = 1.0) -> str | Silence:
    hole = Hole(before, after, lsp.Position(0, 0), "\n", Place(0, 0))
    return judge_item(CompletionItem(text, confidence), hole, min_confidence=0.5)


def trim(text: str, before: str, after: str) -> str:
    """The text shown; "" for silence."""
    shown = judged(text, before, after)
    return "" if isinstance(shown, Silence) else shown


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
        # brackets decide: these closing brackets belong to the answer
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
        ("x(y => {\n  ", "a\n}", "\n});\n", "a"),
        ("if (x) {\n  ", "a\n}", "\n} else {\n", "a"),
        # the same text at another indentation is not a repetition
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


def test_other_line_ends_are_normalised() -> None:
    assert trim("a\r\nb\rc", "", "") == "a\nb\nc"


code = st.text(alphabet="ab_ (){}[]\n\"',:", max_size=24)


@given(before=code, text=code, after=code)
def test_an_answer_is_cut_only_at_its_ends(before: str, text: str, after: str) -> None:
    shown = trim(text, before, after)
    stripped = "\n".join(line.rstrip() for line in text.split("\n"))
    assert shown.rstrip() in text or shown.rstrip() in stripped
    assert shown == "" or shown.strip()


def test_unmatched_brackets_counts_both_kinds() -> None:
    assert unmatched_brackets("f(a[0])") == 0
    assert unmatched_brackets("f(a[0]") == 1
    assert unmatched_brackets("a)) + (") == 3
    assert unmatched_brackets("(]") == 2


@pytest.mark.parametrize(
    ("before", "text", "after", "reason"),
    [
        ("x = ", " \n", "", Silence.BLANK),
        ("x = ", "", "", Silence.BLANK),
        ("f(", ")", ")", Silence.NOTHING_LEFT_AFTER_TRIMMING),
        ("pri", "t(x)\n", "nt", Silence.MID_WORD),
        ("", "a = 1", "\na = 1\n", Silence.REPEATS_NEXT_LINES),
        ("a = 1\n", "a = 1", "\n", Silence.REPEATS_PREVIOUS_LINES),
        ("def f():\n    ", "\n\ndef g():\n    pass", "\n", Silence.OUT_OF_SCOPE),
        ("package main\n", "\nimport {\n * W,\n * W,\n * W,", "", Silence.REPEATS_ITSELF),
        ("x = [", "\n  a,\n  b,\n  a,\n  b,\n  a,\n  b,\n]", "", Silence.REPEATS_ITSELF),
    ],
)
def test_every_suppression_has_a_silence_reason(
    before: str, text: str, after: str, reason: Silence
) -> None:
    assert judged(text, before, after) is reason


@pytest.mark.parametrize(
    "text", ["a()\n\na()", "[\n  0, 0,\n  0, 0,\n  0, 0,\n]", "{{\n}\n}\n}", "a,\nb,\na,\nb,\nc"]
)
def test_twice_is_no_repetition_nor_are_rows_of_digits(text: str) -> None:
    assert not repeats_itself(text)


def test_the_confidence_gate() -> None:
    assert judged("1", "x = ", "", confidence=0.49) is Silence.LOW_CONFIDENCE
    assert judged("1", "x = ", "", confidence=0.5) == "1"


def test_completion_within_a_word() -> None:
    assert judged("i", "pr", "nt(x)") == "i"
    assert judged("x, ", "f(", "y)") == "x, ", "the start of a word is not its middle"


@pytest.mark.parametrize(
    ("line_before", "text", "kept"),
    [
        ("x = ", "1", "1"),
        # a block, and what follows it
        ("def f():", "\n    a\n\n    b\n\ndef g():\n    c", "\n    a\n\n    b\n"),
        (
            "    if a:",
            "\n        b\n    else:\n        c\n    d",
            "\n        b\n    else:\n        c",
        ),
        ("    if a:", "\n        b\n    elsewhere = 1", "\n        b"),
        ("f(", "\n    a,\n)\ng()", "\n    a,\n)"),
        ("def f(", "\n    a,\n):\n    return a\nb", "\n    a,\n):\n    return a"),
        ("if (a) {", "\n  b\n} else {\n  c\n}\nd", "\n  b\n} else {\n  c\n}"),
        # within a block: its lines, but not those of the enclosing block
        ("    ", "a\n    b\nc", "a\n    b"),
        ("    a = ", "1\n    b = 2\nc", "1\n    b = 2"),
        ("\t", "a\n\tb\nc", "a\n\tb"),
        ("    ", "\n\nc", "\n"),
        ("", "a\nb\nc", "a\nb\nc"),
        ("  ", "a\n}\nb", "a\n}"),
        ("", "    a\n    b\nc", "    a\n    b"),
    ],
)
def test_an_answer_ends_with_its_scope(line_before: str, text: str, kept: str) -> None:
    assert within_scope(text, line_before) == kept


@pytest.mark.parametrize(
    ("completed", "preceding", "repeats"),
    [
        ("x = 1", "x = 1\n", True),
        ("x = 1", "x = 1\n\n\n", True),
        ("    x = 1", "x = 1\n", False),
        ("a\nb", "z\na\nb\n", True),
        ("a\nc", "a\nb\n", False),
        ("}", "}\n", False),
        ("x", "", False),
    ],
)
def test_repetition_of_the_lines_before(completed: str, preceding: str, repeats: bool) -> None:
    assert repeats_previous_lines(completed, preceding) is repeats
