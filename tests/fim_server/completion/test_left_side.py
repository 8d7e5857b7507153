"""What is left of the cursor is not given again, and tokens spelled as text are not shown."""

from __future__ import annotations

import pytest
from fim_model.requests import CompletionItem
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.completion.gate import judge_item
from fim_server.completion.hole import Hole
from fim_server.completion.left_side import without_restated
from fim_server.completion.markers import without_markers
from fim_server.completion.silence import Silence
from fim_server.documents.documents import Place


def shown_at(before: str, text: str, after: str) -> str:
    """The text shown; "" for silence."""
    hole = Hole(before, after, lsp.Position(0, 0), "\n", Place(0, 0), "python")
    shown = judge_item(CompletionItem(text, 1.0), hole, 0.5)
    return "" if isinstance(shown, Silence) else shown


@pytest.mark.parametrize(
    ("before", "text", "shown"),
    [
        # the line
        ("result = ", "result = compute(x)", "compute(x)"),
        ("    result = ", "    result = compute(x)", "compute(x)"),
        ("    result =", "result = compute(x)", " compute(x)"),
        ("return ", "return x", "x"),
        ("print(", "print(x)", "x)"),
        ("const x: number = ", "const x: number = 5;", "5;"),
        ("# ", "# a comment", "a comment"),
        ("def f(", "(self, x):", "self, x):"),
        # the word or name at the cursor
        ("x = comp", "compute(x)", "ute(x)"),
        ("self.val", "value", "ue"),
        ("self.val", "self.value", "ue"),
        ("self.", "self.value", "value"),
        ("std::vec", "std::vector<int>", "tor<int>"),
        # an operator, a blank, a quote
        ("x = ", "= 1", "1"),
        ("f(a, ", ", b)", "b)"),
        ("x = ", " 1", "1"),
        ('x = "', '"abc"', 'abc"'),
        # indentation
        ("def f():\n    ", "    return 1", "return 1"),
        ("def f():\n    ", "    a = 1\n    return a", "a = 1\n    return a"),
        ("def f():\n    a = 1\n    ", "    return a", "return a"),
        ("def f():\n\t", "\treturn 1", "return 1"),
        ("    if a:\n    ", "        b", "    b"),
        # lines above
        ("def f():\n    ", "def f():\n    return 1", "return 1"),
        ("a = 1\ndef f():\n    ", "a = 1\ndef f():\n    return 1", "return 1"),
        ("a = 1\nb = ", "a = 1\nb = 2", "2"),
        # with other blanks, or on a line of its own
        ("result = ", "result=compute(x)", "compute(x)"),
        ("result = ", "\nresult = compute(x)", "compute(x)"),
        ('    """', '    """Doc."""', 'Doc."""'),
        # signs that open a line
        ("#inc", "#include <x>", "lude <x>"),
        ("@", "@property", "property"),
        ("<div ", "<div class", "class"),
        ("- a\n- ", "- b", "b"),
        ("1. a\n2. ", "2. b", "b"),
        # keywords at the end of the line
        ("x = await ", "await f()", "f()"),
        ("    } else if ", "else if (x) {", "(x) {"),
        ("    } else if ", "if (x) {", "(x) {"),
        ("public static ", "static void f() {", "void f() {"),
        ("    if x is not ", "not None:", "None:"),
        ("SELECT * FROM ", "FROM t", "t"),
        # a comparison, a call with arguments, a comment, the sign at the cursor
        ("if x == ", "x == 1:", "1:"),
        ("f(a=", "a=1)", "1)"),
        ("x = foo(a, ", "foo(a, b)", "b)"),
        ("// TODO: ", "TODO: fix", "fix"),
        ("    # the old ", "the old way", "way"),
        ("a && ", "&& b", "b"),
        ("a + ", "+ b", "b"),
        ("a.", ".b()", "b()"),
        ("a::", "::b()", "b()"),
        ("`${", "${x}`", "x}`"),
        # two letters of a name that the file has
        ("value = 1\nprint(va", "value)", "lue)"),
        ("island = 1\nis", "island = 1", "land = 1"),
        # what only looks like a repetition
        ("x = not ", "not a", "not a"),
        ("say x!", "x!", "x!"),
        ("x = max(", "max(a, b), c)", "max(a, b), c)"),
        ("x = a, ", "a, b", "a, b"),
        ("x = a - ", "-1", "-1"),
        ("co", "cohort = cocoa", "cohort = cocoa"),
        ("cocoa = coa = 1\nco", "coa", "coa"),
        ("x = x + ", "x + 1", "x + 1"),
        ("return fib(", "fib(n - 1))", "fib(n - 1))"),
        ("long ", "long x;", "long x;"),
        ("    0, ", "0, 0,", "0, 0,"),
        ("x = 1 ", " # one", " # one"),
        ("if x =", "= 1:", "= 1:"),
        ("is", "island = 1", "island = 1"),
        ("    if a:\n    ", "    b", "    b"),
        ("(", "(a, b))", "(a, b))"),
        ('x = ""', '"doc"""', '"doc"""'),
        ("# the ", "the other", "the other"),
        ("1000", "1000", "1000"),
    ],
)
def test_the_left_side_is_not_repeated(before: str, text: str, shown: str) -> None:
    assert without_restated(text, before) == shown


@given(
    st.text(alphabet="ab ._=(\n\t", max_size=20),
    st.text(alphabet="ab ._=()\n\t", max_size=20),
)
def test_only_a_start_is_taken_away(before: str, text: str) -> None:
    assert text.endswith(without_restated(text, before))


@pytest.mark.parametrize(
    "token",
    [
        "<|endoftext|>",
        "<|fim_pad|>",
        "<|file_sep|>",
        "<|im_end|>",
        "<|eom|>",
        "<|eot_id|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "<｜fim▁hole｜>",
        "<fim_middle>",
        "<fim-prefix>",
        "<file_sep>",
        "<EOT>",
        "▁<EOT>",
        "</s>",
        "[SUFFIX]",
        "[MIDDLE]",
        "[/INST]",
        "<end_of_turn>",
        "<eos>",
        "<unk>",
        "<SPECIAL_20>",
        "<|expand|>",
        "<[fim-suffix]>",
        "<|fim:suffix|>",
        "<FIM_MIDDLE>",
        "<fim▁suffix>",
        "<|_unused_7|>",
        "<EOS_TOKEN>",
        "<extra_id_0>",
        "\0",
        "\x1b[31m",
        "\x08",
        "\ufffd",
    ],
)
def test_a_token_spelled_out_ends_the_answer(token: str) -> None:
    assert shown_at("x = ", f"a + b{token}garbage", "\n") == "a + b"
    assert shown_at("x = ", f"{token}garbage", "\n") == ""
    own = f'END = "{token}"\n'
    assert shown_at(f"{own}y = ", f'"{token}"', "\n") == f'"{token}"', "the user's own text"


def test_every_marker_of_every_known_layout_is_recognised() -> None:
    from fim_model.families.architectures import FAMILIES

    from fim_server.backends.templates import TEMPLATES

    layouts = {layout for family in FAMILIES.values() for layout in family.layouts}
    assert len(layouts) > 3
    for layout in layouts:
        for token in (*layout.needed, *layout.stops):
            assert without_markers(f"a{token}b", "") == "a", f"{layout.name}: {token}"
    for name, template in TEMPLATES.items():
        for token in template.stops:
            assert without_markers(f"a{token}b", "") == "a", f"{name}: {token}"


def test_a_token_that_the_limit_cut_is_not_shown() -> None:
    for cut in ("<|im_end", "<|endoftext|", "<｜end▁of"):
        assert without_markers(f"a + b{cut}", "") == "a + b", cut
    assert without_markers("f <|abc", "", "fsharp") == "f <|abc"
    assert without_markers("x <|im_end", 'END = "<|im_end|>"') == "x <|im_end"


def test_the_thoughts_of_a_model_are_no_code() -> None:
    assert without_markers("<think>\nHm.\n</think>\n\nreturn 1", "") == "return 1"
    assert without_markers("<think>\nHm, if I", "") == ""
    assert without_markers("<think>", "<think>") == "<think>"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a < b > c", "python"),
        ("a <|> b", "haskell"),
        ("x <| f |> y", "fsharp"),
        ("<s>old</s>", "html"),
        ("Vec<T>", "rust"),
        ("[INFO] done", "python"),
        ("if a <PREV", "c"),
    ],
)
def test_code_is_no_token(text: str, language: str) -> None:
    assert without_markers(text, "", language) == text


def test_a_code_block_of_a_chat_model_is_its_code() -> None:
    assert without_markers("```python\nreturn 1\n```\nThis returns 1.", "") == "return 1"
    assert without_markers("```\nreturn 1", "") == "return 1"
    assert without_markers("```python\nx\n```", "", "markdown") == "```python\nx\n```"
    assert without_markers("```python\n```", "") == ""
