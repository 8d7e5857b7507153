"""What is right of the cursor ends up balanced and not doubled, in every language."""

from __future__ import annotations

import time

import pytest
from fim_model.requests import CompletionItem
from hypothesis import example, given
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.completion.gate import Judgement, judge
from fim_server.completion.hole import Hole, lines_to_ask_for
from fim_server.completion.silence import Silence
from fim_server.completion.trim import unmatched_brackets
from fim_server.documents.documents import Place
from fim_server.settings.settings import Settings
from fim_server.syntax.brackets import balance


def hole_in(before: str, after: str, language: str = "python") -> Hole:
    place = Place(before.count("\n"), len(before.rpartition("\n")[2]))
    return Hole(before, after, lsp.Position(0, 0), "\n", place, language)


def judged(
    before: str, text: str, after: str, language: str = "python", *, replaces: bool = False
) -> Judgement:
    hole = hole_in(before, after, language)
    return judge([CompletionItem(text, 1.0)], hole, 0.5, replaces=replaces)


def accepted(before: str, text: str, after: str, language: str, *, replaces: bool = False) -> str:
    """The text around the cursor once what is shown is accepted."""
    judgement = judged(before, text, after, language, replaces=replaces)
    [fit] = judgement.fits or [None]
    return before + (fit.text + after[fit.over :] if fit else after)


@pytest.mark.parametrize(
    ("language", "before", "text", "after", "result"),
    [
        ("python", "def three(", "self, x):", ")", "def three(self, x)"),
        ("python", "def f(self", "):", ")", "def f(self)"),
        ("javascript", "for (let i = 0; ", "i < n; i++) {", ")", "for (let i = 0; i < n; i++)"),
        ("javascript", "for (let i = 0; ", "i < n; i++) {", ") {", "for (let i = 0; i < n; i++) {"),
        ("javascript", "const d = (", "(x) => {", ")", "const d = ((x) =>)"),
        ("javascript", "const d = (", "x) => {", ")", "const d = (x)"),
        ("c", "if (", "a > b) return x;", ") {", "if (a > b) {"),
        ("go", "fmt.Println(", 'a, "b")', ")", 'fmt.Println(a, "b")'),
        ("java", "foo(", "bar(a), b));", "))", "foo(bar(a), b))"),
        ("python", "x = a[", "0]", "]", "x = a[0]"),
        ("python", "x = a[", "0][1]", "]", "x = a[0][1]"),
        ("python", "x = {", '"a": 1}', "}", 'x = {"a": 1}'),
        ("python", "foo(", "a, bar(c", ")", "foo(a, bar)"),
        ("python", "foo(", "(a, b)", ")", "foo((a, b))"),
        # quotes
        ("python", 'print("', 'hello")', '")', 'print("hello")'),
        ("python", 'print("', '"hello"', '")', 'print("hello")'),
        ("python", 'print("', 'hello", end="")', '")', 'print("hello", end="")'),
        ("python", "x = '", "a'", "'", "x = 'a'"),
        ("python", '"""', 'Doc string."""', '"""', '"""Doc string."""'),
        ("python", "print(", 'f"abc', ")", "print()"),
        ("javascript", "const s = `a ${", "b}`;", "}`", "const s = `a ${b}`"),
        ("javascriptreact", '<p id="', 'foo">Hi</p>', '"></p>', '<p id="foo"></p>'),
        ("json", '{"', 'a": 1}', '"}', '{"a"}'),
        # a bracket in a string has no partner
        ("python", "print(", '":)"', ")", 'print(":)")'),
        ("python", "re.compile(", r'r"\(foo"', ")", r're.compile(r"\(foo")'),
        ("c", "f(", "'('", ")", "f('(')"),
        # an apostrophe, a lifetime and a character are no strings
        ("rust", "fn f<'a>(", "x: &'a str) -> &'a str {", ")", "fn f<'a>(x: &'a str)"),
        ("markdown", "(don't ", "stop)", ")", "(don't stop)"),
        ("cpp", "f(1'000, ", "2'000);", ")", "f(1'000, 2'000)"),
        # angles, where the rest of the line closes one
        ("rust", "let x: Vec<", "u8> = Vec::new();", ">", "let x: Vec<u8>"),
        ("typescript", "new Map<", "string, Array<x>>()", ">()", "new Map<string, Array<x>>()"),
        ("python", "if a <", " b and c", ":", "if a < b and c:"),
        # blocks of several lines
        (
            "javascript",
            "function f() {",
            "\n  return 1;\n}\n\nfunction g() {\n  return 2;",
            "}",
            "function f() {\n  return 1;\n}",
        ),
        (
            "javascript",
            "  x.map((y) => {",
            "\n    return y;\n  })",
            "});",
            "  x.map((y) => {\n    return y;\n  });",
        ),
        (
            "javascript",
            "  if (a) {",
            "\n    b();\n    if (c) {\n      d(",
            "}",
            "  if (a) {\n    b();\n  }",
        ),
        (
            "javascript",
            "g((x) => ",
            "{\n  return x;\n})",
            ")",
            "g((x) => {\n  return x;\n})",
        ),
        ("python", "foo(", "\n    a,\n    b,\n)", ")", "foo(\n    a,\n    b,\n)"),
        ("go", "x := T{", "\n\tA: 1,\n}", "}", "x := T{\n\tA: 1,\n}"),
        # a block although the line goes on
        (
            "javascript",
            "do {",
            "\n  a();\n} while (b);",
            "} while (b);",
            "do {\n  a();\n} while (b);",
        ),
        (
            "javascript",
            "if (a) {",
            "\n  b();\n} else {\n  c();\n}",
            "} else { c(); }",
            "if (a) {\n  b();\n} else { c(); }",
        ),
        ("go", "go func() {", "\n\ta()\n}()", "}()", "go func() {\n\ta()\n}()"),
        ("javascript", "foo([", "\n  1,\n], c);", "], c);", "foo([\n  1,\n], c);"),
        # pairs of one character
        ("rust", "v.map(|", "x| x + 1)", "|)", "v.map(|x|)"),
        ("ruby", "a.map { |", "x, y| x }", "| }", "a.map { |x, y| }"),
        ("latex", "$", "x^2$ and $y$", "$", "$x^2$"),
        ("markdown", "**", "bold** text", "**", "**bold**"),
        ("javascript", "a = b |", "c | d", "| e", "a = b |c | d| e"),
        # strings in which a backslash escapes nothing, regular expressions, characters
        ("go", "f(`", "c:\\`, b)", "`)", "f(`c:\\`)"),
        ("csharp", '@"', 'c:\\" + d', '"', '@"c:\\"'),
        ("cpp", 'f(R"(', 'a" ( b)")', ')")', 'f(R"(a" ( b)")'),
        ("rust", "f(", 'r#"a"("#, b)', ")", 'f(r#"a"("#, b)'),
        ("sql", "f('", "c:\\', 1)", "')", "f('c:\\')"),
        ("javascript", "foo(", '/[)"]/, b)', ")", 'foo(/[)"]/, b)'),
        ("typescript", "x.replace(", "/\\(/g, '')", ")", "x.replace(/\\(/g, '')"),
        ("javascript", "x = a / b + foo(", "c / d)", ")", "x = a / b + foo(c / d)"),
        ("clojure", "(f ", "\\( x)", ")", "(f \\( x)"),
        ("emacs-lisp", "(f ", "?\\( x)", ")", "(f ?\\( x)"),
    ],
)
def test_the_line_after_acceptance(
    language: str, before: str, text: str, after: str, result: str
) -> None:
    assert accepted(before, text, after, language) == result


@pytest.mark.parametrize(
    ("language", "before", "text", "after", "result"),
    [
        ("python", "def three(", "self, x):", ")", "def three(self, x):"),
        ("python", "def f(self", "):", ")", "def f(self):"),
        ("javascript", "foo(", "a, b);", ")", "foo(a, b);"),
        ("javascript", "const d = (", "x) => x + 1;", ")", "const d = (x) => x + 1;"),
        ("python", "def f(", "a) -> int:", "):", "def f(a) -> int:"),
        ("python", 'print("', 'a"); b()', '")', 'print("a"); b()'),
        ("rust", "let x: Vec<", "u8> = Vec::new();", ">", "let x: Vec<u8> = Vec::new();"),
        ("rust", "v.map(|", "x| x + 1)", "|)", "v.map(|x| x + 1)"),
        # never worse than now, and never over anything but brackets and punctuation
        ("javascript", "for (let i = 0; ", "i < n; i++) {", ")", "for (let i = 0; i < n; i++)"),
        ("python", "foo(", "a):", ", b)", "foo(a, b)"),
        ("python", "foo(", "a)  # x", ")  # call", "foo(a)  # call"),
        ("python", "x = [", "1]", "]", "x = [1]"),
    ],
)
def test_an_item_in_place_of_the_rest_of_the_line(
    language: str, before: str, text: str, after: str, result: str
) -> None:
    assert accepted(before, text, after, language, replaces=True) == result


@pytest.mark.parametrize(
    ("language", "before", "text", "after", "shown"),
    [
        ("python", "f(a", "))", "\n", ")"),
        ("python", "foo(\n    a", ")", "\n)\n", None),
        ("python", "x = (\n    a", ")", "\n", ")"),
        ("c", "int main() {\n  if (a) {\n    ", "b;\n  }\n}", "\n}\n", "b;\n  }"),
        ("c", "int main() {\n  ", "}\n}", "\n}\n", None),
        ("shellscript", "case $x in\n  foo", ")", "\nesac\n", ")"),
        ("markdown", "1", ") one", "\n", ") one"),
        ("python", "if x", " == ':)':", "\n", " == ':)':"),
        ("javascript", "if (x) ", "{", "\n", "{"),
    ],
)
def test_at_the_end_of_a_line_nothing_is_closed_that_is_not_open(
    language: str, before: str, text: str, after: str, shown: str | None
) -> None:
    judgement = judged(before, text, after, language)
    assert judgement.texts == ([] if shown is None else [shown])
    if shown is None:
        assert judgement.silence is Silence.UNBALANCED


LANGUAGES = [
    "",
    *[
        "python",
        "javascript",
        "typescript",
        "rust",
        "c",
        "cpp",
        "java",
        "go",
        "ruby",
        "lua",
        "html",
        "css",
        "json",
        "yaml",
        "latex",
    ],
]
code = st.text(alphabet="ab ()[]{}\"'`<>,;:=\\", max_size=12)
lines = st.text(alphabet="ab ()[]{}\"'`<>,;:=\\\n", max_size=24)


@given(st.sampled_from(LANGUAGES), code, lines, code.filter(str.strip), st.booleans())
@example("python", "print('", "it's'", "')", True)
@example("rust", "x<'a>(", "'a'", ">)", True)
@example("javascript", "f(`", "${`a`}`)", "`)", False)
@example("python", "((", "))\n((", "))", False)
def test_the_balance_of_a_line_never_gets_worse(
    language: str, before: str, text: str, after: str, replaces: bool
) -> None:
    result = accepted(before, text, after, language, replaces=replaces)
    assert not balance(result, language) - balance(before + after, language)


@given(
    st.text(alphabet="ab ()[]{},;", max_size=12),
    st.text(alphabet="ab ()[]{},;\n", max_size=24),
    st.text(alphabet="ab ()[]{},;", min_size=1, max_size=12).filter(str.strip),
    st.booleans(),
)
def test_without_quotes_the_number_of_brackets_without_a_partner_never_grows(
    before: str, text: str, after: str, replaces: bool
) -> None:
    result = accepted(before, text, after, "", replaces=replaces)
    assert unmatched_brackets(result) <= unmatched_brackets(before + after)


@given(st.text(alphabet="ab ,()[]{}", max_size=10))
def test_the_rest_of_the_line_is_never_doubled(inner: str) -> None:
    """A model that writes the whole line, whose end is there already, doubles nothing."""
    for opener, closer in ("()", "[]", "{}", '""'):
        if balance(f"{opener}{inner}{closer}") or not inner.strip():
            continue
        judgement = judged(f"f{opener}", f"{inner}{closer}", closer)
        assert judgement.texts in ([inner.rstrip()], []), judgement


@pytest.mark.parametrize(
    ("before", "after", "language", "lines"),
    [
        ("function f() {", "}", "javascript", 7),
        ("function f() {", " }\n", "cobol", 7),
        ("x.map(y => {", "});", "javascript", 7),
        ("x := T{", "}", "go", 7),
        ("useEffect(() => {", "}, []);", "javascript", 7),
        ("try {", "} catch (e) {}", "javascript", 7),
        ("go func() {", "}()", "go", 7),
        ('f"{', '} and more"', "python", 1),
        ("foo(", ")", "javascript", 1),
        ("`${", "}`", "javascript", 1),
        ('f"{', '}"', "python", 1),
        ("{ a", "}", "javascript", 1),
        ("{", " a }", "javascript", 1),
    ],
)
def test_a_pair_of_braces_may_become_a_block(
    before: str, after: str, language: str, lines: int
) -> None:
    settings = Settings(max_lines=7)
    assert lines_to_ask_for(hole_in(before, after, language), language, settings) == lines
    never = Settings(max_lines=7, multiline="never")
    assert lines_to_ask_for(hole_in(before, after, language), language, never) == 1


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ("", 7),
        ("local x = 1\n", 7),
        ("local x = ", 1),
        ('local x = require("', 1),
        ("if x then", 7),
        ("for i = 1, 3 do ", 7),
        ("local function", 1),
        ("items:", 7),
        ("  name: ", 7),
        ("A sentence of pro", 1),
    ],
)
def test_without_a_grammar_what_begins_a_line_gets_its_rest_alone(before: str, lines: int) -> None:
    settings = Settings(max_lines=7)
    assert lines_to_ask_for(hole_in(before, "", "lua"), "lua", settings) == lines


def test_a_long_line_does_not_hold_up_the_answer() -> None:
    began = time.process_time()
    judged("(" * 10_000 + 'f("', 'a")' * 500, '")' + ")" * 10_000)
    assert time.process_time() - began < 2.0
