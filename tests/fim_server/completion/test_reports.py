"""Public reports about other tools, tried here; `tests/reports_completion.md` lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fim_model.requests import CompletionItem
from lsprotocol import types as lsp

from fim_server.completion.cache import SuggestionCache
from fim_server.completion.gate import Judgement, judge
from fim_server.completion.hole import Hole, budgeted_hole
from fim_server.completion.silence import Silence
from fim_server.documents.documents import DocumentStore, Place
from fim_server.settings.settings import Settings

TESTS = Path(__file__).parents[2]


def hole_in(before: str, after: str, language: str) -> Hole:
    place = Place(before.count("\n"), len(before.rpartition("\n")[2]))
    return Hole(before, after, lsp.Position(0, 0), "\n", place, language)


def judged(
    before: str, text: str, after: str, language: str, *, replaces: bool = False
) -> Judgement:
    hole = hole_in(before, after, language)
    return judge([CompletionItem(text, 1.0)], hole, 0.5, replaces=replaces)


@pytest.mark.parametrize(
    ("report", "language", "before", "text", "after", "result"),
    [
        ("copilot.lua#43", "go", "someFunc(", "a, b)", ")", "someFunc(a, b)"),
        ("copilot.lua#322", "go", "if csi.Param(", "0) != 0 {", ")", "if csi.Param(0)"),
        ("copilot.lua#215", "lua", "require('", "telescope')", "'", "require('telescope'"),
        (
            "copilot-cmp#22",
            "python",
            "numpy.array(",
            "numpy.array([1, 2, 3])",
            ")",
            "numpy.array([1, 2, 3])",
        ),
        ("copilot-cmp#41", "javascript", 'a["', 'b"]["c"]', '"]', 'a["b"]["c"]'),
        (
            "tabnine-vscode#86",
            "javascript",
            "const u = `/x/${encodeURI(",
            "file)}`",
            ")}`",
            "const u = `/x/${encodeURI(file)}`",
        ),
        ("tabnine-vscode#1078", "javascript", "app.get((", "req))", "))", "app.get((req))"),
        ("godot#2332", "gdscript", 'get_node("', 'path_to_node"', '")', 'get_node("path_to_node")'),
        (
            "blink.cmp#1767",
            "astro",
            "import B from '../layouts/",
            "other-layout.astro",
            ".astro';",
            "import B from '../layouts/other-layout.astro';",
        ),
        (
            "vscode#211501",
            "cpp",
            "A f() {\n  return S {\n    ",
            "a,\n    b,\n  };",
            "\n  }\n}\n",
            "A f() {\n  return S {\n    a,\n    b,\n  }\n}\n",
        ),
        (
            "tabby#1265",
            "javascriptreact",
            "<Button onClick={",
            "() => go()}>Go</Button>",
            "}></Button>",
            "<Button onClick={() => go()}></Button>",
        ),
        (
            "WindsurfVisualStudio#101",
            "csharp",
            "int a = 1;\nint b = ",
            "2;\r\nint c = 3;\r\nint d = 4;",
            "\nint c = 3;\nint d = 4;\n",
            "int a = 1;\nint b = 2;\nint c = 3;\nint d = 4;\n",
        ),
        ("tabby#3261", "python", "def f():\n    ", " return 1", "\n", "def f():\n    return 1\n"),
        (
            "minuet-ai.nvim#100",
            "python",
            "total = sum(",
            "total = sum(values) / 2",
            ") / 2",
            "total = sum(values) / 2",
        ),
        (
            "Qwen3-Coder#99",
            "python",
            "x = ",
            "1<|fim_pad|><|fim_pad|><|file_sep|>other.py\ny = 2",
            "\n",
            "x = 1\n",
        ),
        ("llm-vscode#113", "go", "func main() {\n\t", "fmt.Println(1) <EOT>", "\n}\n", None),
    ],
)
def test_reported_texts(
    report: str, language: str, before: str, text: str, after: str, result: str | None
) -> None:
    """The document after acceptance."""
    [shown] = judged(before, text, after, language).texts
    expected = "func main() {\n\tfmt.Println(1)\n}\n" if result is None else result
    assert before + shown + after == expected, report


@pytest.mark.parametrize(
    ("report", "language", "before", "text", "after", "result"),
    [
        ("copilot.lua#322", "go", "if csi.Param(", "0) != 0 {", ")", "if csi.Param(0) != 0"),
        ("kilocode#3386", "python", "print(f'", "{x}');", "')", "print(f'{x}');"),
        ("vscode#170538", "javascript", "console.log(", "a);", ")", "console.log(a);"),
    ],
)
def test_reported_texts_over_the_rest_of_the_line(
    report: str, language: str, before: str, text: str, after: str, result: str
) -> None:
    [fit] = judged(before, text, after, language, replaces=True).fits
    assert before + fit.text + after[fit.over :] == result, report


def test_a_typed_bracket_that_the_editor_closes_is_not_doubled() -> None:
    """vscode#26012: `fo` gets `foo()`, then `o(` is typed, to which the editor adds `)`."""
    cache = SuggestionCache()
    cache.remember("a", hole_in("fo", "\n", "dart"), Judgement(["o(1, 2)"], None), 1)
    known = cache.find("a", hole_in("foo(", ")\n", "dart"), 1)
    assert known is not None
    assert known.texts == ["1, 2"]


def test_a_bracket_that_is_typed_over_leaves_the_rest() -> None:
    """tabnine-vscode#60: after the suggestion, `)` is typed over the editor's own."""
    cache = SuggestionCache()
    cut = judged("print(", "foo) + 1", ")\n", "python")
    cache.remember("a", hole_in("print(", ")\n", "python"), cut, 1)
    known = cache.find("a", hole_in("print(foo)", "\n", "python"), 1)
    assert known is not None
    assert known.texts == [" + 1"]


def test_indentation_that_is_typed_meanwhile_is_not_doubled() -> None:
    """cody#2560: the suggestion was made at the start of the line, then Tab was pressed."""
    cache = SuggestionCache()
    before = "function test() {\n"
    made = judged(before, "    const x = 1", "\n}\n", "typescript")
    cache.remember("a", hole_in(before, "\n}\n", "typescript"), made, 1)
    for typed, rest in (("  ", "  const x = 1"), ("    ", "const x = 1"), ("      ", None)):
        known = cache.find("a", hole_in(before + typed, "\n}\n", "typescript"), 1)
        assert (known.texts if known else None) == ([rest] if rest else None), typed


def test_white_space_alone_is_not_shown() -> None:
    """vscode#275522: nobody sees ghost text of blanks."""
    assert judged("public ", "  \n\t", "void f()", "java").silence is Silence.BLANK
    assert judged("x = 1", "\n\n    ", "\n", "python").silence is Silence.BLANK


def test_mixed_line_ends_are_trimmed_as_equal() -> None:
    """WindsurfVisualStudio#101: lines that end in `\\r\\n` and in `\\n` in one document."""
    store = DocumentStore()
    store.open("file:///a.cs", "csharp", 1, "int b = \r\nint c = 3;\nint d = 4;\r\n")
    snapshot = store.snapshot("file:///a.cs")
    assert snapshot is not None
    hole = budgeted_hole(snapshot, lsp.Position(0, 8), Settings())
    text = "2;\r\nint c = 3;\nint d = 4;"
    assert judge([CompletionItem(text, 1.0)], hole, 0.5).texts == ["2;"]


def names(test: str) -> bool:
    """Whether `file::test` exists."""
    file, _, name = test.partition("::")
    return f"def {name}(" in (TESTS / file).read_text()


def test_every_row_of_the_variants_names_a_test_that_exists() -> None:
    table = (TESTS / "reports_variants.md").read_text()
    tests = re.findall(r"^\| .* \| `([^`]+)` \|$", table, re.MULTILINE)
    assert len(tests) == table.count("\n| ") - 1, "all rows have the columns of the table"
    assert [test for test in tests if not names(test)] == []


def test_every_row_of_the_table_names_a_test_that_exists() -> None:
    table = (TESTS / "reports_completion.md").read_text()
    rows = re.findall(r"^\| .* \| ([^|]+) \| (\S+#\d+) \| .* \| `([^`]+)` \|$", table, re.MULTILINE)
    assert len(rows) >= 25, "all rows have the columns of the table"
    assert len({report for _, report, _ in rows}) == len(rows), "each report once"
    assert len(rows) == table.count("\n| ") - 1
    for _, report, test in rows:
        file, _, name = test.partition("::")
        text = (TESTS / file).read_text()
        assert name in text, f"{report}: {test}"
