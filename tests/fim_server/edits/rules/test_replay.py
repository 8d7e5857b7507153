"""What a person did, done elsewhere: where, and where not."""

from __future__ import annotations

import pytest
from edit_pages import URI, expected

from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk
from fim_server.edits.regions import regions
from fim_server.edits.rules.drafts import MOST_DRAFTS, LineEdit, Suggestion, applied, drafts
from fim_server.edits.rules.missing_imports import read_import
from fim_server.edits.rules.token_diff import merged
from fim_server.edits.rules.typos import is_slip
from fim_server.syntax.languages import language_of

LOCAL = """\
total = 0

def cost(amount, price):
    '''The total of `total` things; :param total: no more.'''
    amount += order.total
    log("total", total=amount)  # total
    return total * price

def other(total):
    return total
"""


def test_a_local_name_is_replaced_in_its_function_and_nowhere_else() -> None:
    found = expected(LOCAL, (2, "def cost(total, price):"), (4, "    total += order.total"))
    assert found[6] == ["    return amount * price"]
    assert found[3] == ["    '''The total of `amount` things; :param amount: no more.'''"]
    assert set(found) == {3, 6}, "no attribute, keyword, comment, global or other function's"


def test_a_global_name_is_replaced_where_no_function_has_its_own() -> None:
    text = "limit = 0\n\ndef f():\n    return size + x.size\n\ndef g(size):\n    return size\n"
    assert expected(text, (0, "size = 0")) == {3: ["    return limit + x.size"]}


def test_an_attribute_of_the_same_object() -> None:
    text = "self.price = 1\n\nx = self.cost\n\ny = cost\n\nz = other.cost\n"
    assert expected(text, (0, "self.cost = 1")) == {2: ["x = self.price"]}


def test_a_definition_wherever_it_is_used() -> None:
    text = "class A:\n    def area(self): pass\n\nA().size()\n\nsize = 1\n\nb.size(size=2)\n"
    found = expected(text, (1, "    def size(self): pass"))
    assert found[3] == ["A().area()"]
    assert found[7] == ["b.area(size=2)"]


def test_a_keyword_of_the_function_whose_parameter_was_renamed() -> None:
    text = "def f(width):\n    pass\n\nf(size=1)\n\ng(size=1)\n"
    assert expected(text, (0, "def f(size):")) == {3: ["f(width=1)"]}


def test_other_languages_by_their_own_syntax() -> None:
    body = "  return total + o.total + `${total} total`;"
    text = f"function f(amount) {{\n  a();\n{body}\n}}\nuse(total);\n"
    found = expected(text, (0, "function f(total) {"), language="javascript")
    assert found == {2: ["  return amount + o.total + `${amount} total`;"]}
    unknown = expected("a now\n\nb then then-x\n", (0, "a then"), language="nolang")
    assert unknown == {2: ["b now now-x"]}


def test_a_name_that_was_there_before_is_no_new_one_for_another() -> None:
    """Unless that is done again."""
    text = "def f(a, b):\n    x = b\n\n    y = a\n\n    z = b\n"
    assert expected(text, (1, "    x = a")) == {}
    assert expected(text, (1, "    x = a"), (5, "    z = a"))[3] == ["    y = b"]
    on_its_line = "def f(a, b):\n    x = (b, b)\n\n    y = a\n"
    assert expected(on_its_line, (1, "    x = (a, b)")) == {}


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
def test_an_argument_that_came_or_went(text: str, old: str, wanted: str) -> None:
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
def test_and_where_none_is_missing(text: str, old: str) -> None:
    assert expected(text, (0, old)) == {}


def test_literals_and_passages() -> None:
    assert expected("x = 80\n\ny = 50 + 500\n", (0, "x = 50"))[2] == ["y = 80 + 500"]
    assert expected("x = 'b'\n\ny = 'a'\n", (0, "x = 'a'"))[2] == ["y = 'b'"]
    assert expected("x = 2\n\ny = 1\n", (0, "x = 1")) == {}, "a single digit says nothing"
    assert expected("use(total)\n\nlog(a.b.c + 1)\n", (0, "use(a.b.c)"))[2] == ["log(total + 1)"]


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "wanted"),
    [
        ("add(row[0], width=0)", "add(row[0], width=0, x=1)", "add(row[2], width=2)",
         "add(row[2], width=2, x=1)"),
        ("self.width = width", "self.width = int(width)", "self.height = height",
         "self.height = int(height)"),
        ("x.a = get('a')", "x.a = get('a', None)", "x.b = get('b')", "x.b = get('b', None)"),
        ("if x == 1:", "if x is 1:", "if x == 2:", "if x is 2:"),
        ("a = b", "a = c", "x = y", None),
        ("a = b + 1", "a = b", "x = y", None),
    ],
)  # fmt: skip
def test_what_was_done_to_a_line_done_to_one_like_it(
    base: str, theirs: str, ours: str, wanted: str | None
) -> None:
    assert merged(base, theirs, ours) == wanted


def test_the_third_of_three_similar_lines_and_the_mirrored_branch() -> None:
    lines = [f"    self.{name} = {name}" for name in ("left", "right", "middle")]
    done = [f"    self.{name} = int({name})" for name in ("left", "right")]
    text = "\n\n".join([*done, lines[2]])
    assert expected(text, (0, lines[0]), (2, lines[1]))[4] == ["    self.middle = int(middle)"]
    branch = "if up:\n    move(x, step * 2)\nelse:\n    move(y, step)\n"
    assert expected(branch, (1, "    move(x, step)"))[3] == ["    move(y, step * 2)"]


def test_a_line_that_has_it_already_is_left_alone() -> None:
    text = "log(console, 'a')\n\nlog(console, 'b')\n"
    assert expected(text, (0, "log('a')")) == {}


def test_a_name_is_repaired_once_the_cursor_has_left_its_line() -> None:
    text = "counter = 1\n\n\nx = conuter\n"
    assert expected(text, (3, ""), cursor=3) == {}
    assert expected(text, (3, ""), cursor=1) == {3: ["x = counter"]}
    assert expected("value = 1\n\nvalues = [value]\n", (2, ""), cursor=0) == {}, "a new name"
    renamed = "def f(vlaue):\n    return value\n"
    assert expected(renamed, (0, "def f(x):"), cursor=1)[0] == ["def f(value):"]


@pytest.mark.parametrize(
    ("typed", "meant", "slip"),
    [("hte", "the", True), ("lenght", "length", True), ("conter", "counter", True),
     ("couunter", "counter", True), ("countor", "counter", True), ("rows", "row", False),
     ("Row", "row", False), ("x1", "x2", False), ("a", "b", True), ("total", "amount", False),
     ("", "a", False)],
)  # fmt: skip
def test_slips(typed: str, meant: str, slip: bool) -> None:
    assert is_slip(typed, meant) is slip


TOP = "import os\nfrom a import b\n\nx = 1\n"


def test_an_import_goes_where_it_sorts() -> None:
    assert (
        expected(f"{TOP}y = sys.argv\n", (4, ""))[0][0] == "import os\nimport sys\nfrom a import b"
    )
    assert expected(f"{TOP}y = ast.x\n", (4, ""))[0][0] == "import ast\nimport os\nfrom a import b"
    assert expected(f"{TOP}y = os.x\n", (4, "")) == {}, "it is there"
    assert expected(f"{TOP}sys = 1\n", (4, "")) == {}, "it is a name of its own"
    assert expected(f"{TOP}y = len(x.sys)\n", (4, "")) == {}


def test_what_neighbours_import_is_known() -> None:
    text = f"{TOP}y = Way(c)\n"
    assert expected(text, (4, "")) == {}
    found = expected(text, (4, ""), neighbours=("from ways import Way, Street",))
    assert found[1][0] == "from a import b\nfrom ways import Way"
    standard = expected(f"{TOP}y = Path(c)\n", (4, ""))
    assert standard[1][0] == "from a import b\nfrom pathlib import Path"
    joined = expected(text, (4, ""), neighbours=("from a import Way",))
    assert joined[1][0] == "from a import b, Way"
    script = "import a from 'a';\n\nuse(b);\n"
    neighbour = ("import { b, c } from './b';",)
    found = expected(script, (2, ""), neighbours=neighbour, language="javascript")
    assert found[0][0] == "import { b } from './b';\nimport a from 'a';"


def test_an_import_that_is_no_longer_used_goes() -> None:
    text = "import re\nfrom a import b, c\n\nx = c\n"
    assert expected(text, (3, "x = re.sub(c)"))[0] == [""]
    assert expected(text, (3, "x = b(c)"))[1] == ["from a import c"]
    assert expected(f"{text}y = re\n", (3, "x = re.sub(c)")) == {}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import os.path", ("os",)),
        ("import numpy as np", ("np",)),
        ("from .a import (b, c as d)", ("b", "d")),
        ("from a import *", None),
        ("from a import (", None),
        ("import x, { y } from 'z'", None),
        ("import { x, y as z } from 'a';", ("x", "z")),
        ("const { a } = require('b')", ("a",)),
        ("important = 1", None),
    ],
)
def test_import_lines(line: str, names: tuple[str, ...] | None) -> None:
    found = read_import(line)
    assert (None if found is None else found.names) == names


def test_other_documents_follow_what_they_can_see() -> None:
    lines = split_lines("from b import size\n\nsize(1)\n\ndef f(size):\n    size(2)\n")
    snapshot = Snapshot(URI, "python", 1, 1, Encoding.UTF32, lines)

    def follows(old: str, new: str) -> dict[int, str]:
        hunk = Hunk("file:///project/b.py", 0, (old,), (new,), 0.0)
        found = regions(snapshot, [hunk], language_of("python"), 0)
        return {one.first: one.drafts[0].text for one in found if one.drafts}

    exported = follows("def size(): pass", "def area(): pass")
    assert exported == {0: "from b import area", 2: "area(1)"}
    assert follows("    size = 1", "    area = 1") == {}, "a local name of another file"


def test_drafts_are_bounded_and_the_joint_one_comes_first() -> None:
    lines = ["a b c", "a"]
    many = [Suggestion((LineEdit(5, 4, 5, f"C{n}"),), "c", 1.0 - n / 100) for n in range(20)]
    both = [Suggestion((LineEdit(5, 0, 1, "A"), LineEdit(6, 0, 1, "A")), "a", 3.0), *many]
    found = drafts(lines, 5, both)
    assert len(found) == MOST_DRAFTS
    assert [one.text for one in found[:2]] == ["A b C0\nA", "A b c\nA"]
    assert drafts(lines, 50, both) == []


def test_edits_of_lines() -> None:
    assert (
        applied(["ab", "cd"], 1, [LineEdit(1, 1, 1, "-"), LineEdit(2, 2, 2, "\ne")]) == "a-b\ncd\ne"
    )
    assert applied(["ab", "cd"], 1, [LineEdit(1, 0, 2, "", drops=True)]) == "cd"
    assert applied(["ab", "cd"], 1, [LineEdit(1, 0, 1, "", drops=True)]) == "b\ncd"
