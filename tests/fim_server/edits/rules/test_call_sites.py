"""Rule: calls and documentation after a signature was edited."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

RULES = ("call_sites", "call_arguments", "renames", "docstrings")
after = partial(edit_pages.after, rules=RULES)
expected = partial(edit_pages.expected, rules=RULES)

PAY = "def pay(who, amount):\n    pass\n\n\ndef main(who, when):\n    pay(who)\n\n    x = pay\n"


def test_a_new_parameters_name_is_passed_where_it_is_bound() -> None:
    text = PAY.replace("when", "amount")
    assert after(text, 0, ["def pay(who):"], ["def pay(who, amount):"]) == {
        5: ["    pay(who, amount)"]
    }
    assert after(PAY, 0, ["def pay(who):"], ["def pay(who, amount):"]) == {}, "it has none there"


def test_a_parameter_with_a_default_changes_no_calls() -> None:
    text = PAY.replace("when", "amount").replace(
        "who, amount):\n    pass", "who, amount=1):\n    pass"
    )
    assert after(text, 0, ["def pay(who):"], ["def pay(who, amount=1):"]) == {}


@pytest.mark.parametrize(
    ("call", "old", "new", "wanted"),
    [
        ("f(1)", "a", "limit, a", "f(limit, 1)"),
        ("f(1, k=2)", "a, k", "a, limit, k", "f(1, limit, k=2)"),
        ("f(a=1)", "a", "a, limit", "f(a=1, limit=limit)"),
        ("f(1)", "a", "a, *, limit", "f(1, limit=limit)"),
        ("f()", "", "limit", "f(limit)"),
        ("f([1, 2])", "a", "a, limit", "f([1, 2], limit)"),
        ("x('😀é'); f('é')", "a", "a, limit", "x('😀é'); f('é', limit)"),
        ("f(1, limit=3)", "a, limit", "a, maximum", "f(1, maximum=3)"),
        ("f(1, 2)", "a, b", "a", "f(1)"),
        ("f(1, 2)", "a, b", "b", "f(2)"),
        ("f(1, b=2)", "a, b", "a", "f(1)"),
        ("f(1, 2, 3)", "a, b, c", "a, c", "f(1, 3)"),
    ],
)
def test_calls(call: str, old: str, new: str, wanted: str) -> None:
    text = f"limit = 5\n\ndef f({new}):\n    pass\n\n\n{call}\n"
    assert after(text, 2, [f"def f({old}):"], [f"def f({new}):"])[6] == [wanted]


@pytest.mark.parametrize(
    ("call", "old", "new"),
    [
        ("f(*rest)", "a", "a, limit"),
        ("f(1, limit)", "a", "a, limit"),
        ("f(1, limit=2)", "a", "a, limit"),
        ("f(1, 2)", "a", "a, limit"),
        ("g.f(1)", "a", "a, limit"),
        ("f(2)", "a, b", "b"),
        ("f(1, 2)", "a, b", "b, a"),
        ("f(1)", "a, b", "a"),
        ("# f(1)", "a", "a, limit"),
    ],
)
def test_calls_that_are_unchanged(call: str, old: str, new: str) -> None:
    text = f"limit = 5\n\ndef f({new}):\n    pass\n\n\n{call}\n"
    assert after(text, 2, [f"def f({old}):"], [f"def f({new}):"]) == {}


def test_multi_line_signatures_and_calls() -> None:
    text = "b = 1\n\ndef f(\n    a,\n    b,\n):\n    pass\n\n\nf(\n    1,\n)\n\nf(2,\n  )\n"
    assert after(text, 4, [], ["    b,"]) == {10: ["    1,\n    b,"], 13: ["f(2, b,"]}
    gone = "def f(\n    a,\n):\n    pass\n\n\nf(\n    1,\n    2,\n)\n"
    assert after(gone, 2, ["    b,"], [])[8] == [""]


METHODS = """\
class Shop:
    def __init__(self, rate):
        self.rate = rate

    def cost(self, order, rate):
        return order * rate

    def total(self, orders):
        return sum(self.cost(one) for one in orders)


class Other:
    def total(self, rate):
        return self.cost(1)


Shop()
"""


def test_methods_and_constructors() -> None:
    found = after(METHODS, 4, ["    def cost(self, order):"], ["    def cost(self, order, rate):"])
    assert found[8] == ["        return sum(self.cost(one, self.rate) for one in orders)"]
    made = METHODS.replace("\nShop()", "\nrate = 1\nShop()")
    found = after(made, 1, ["    def __init__(self):"], ["    def __init__(self, rate):"])
    assert found == {17: ["Shop(rate)"]}


@pytest.mark.parametrize(
    ("language", "old", "new", "call", "wanted"),
    [
        ("javascript", "function f(a) {", "function f(a, b) {", "  f(1);", "  f(1, b);"),
        ("javascript", "const f = (a) => {", "const f = (a, b) => {", "  f(1);", "  f(1, b);"),
        ("typescript", "function f(a: A) {", "function f(a: A, b: B) {", "  f(1);", "  f(1, b);"),
        ("go", "func f(a int) {", "func f(a, b int) {", "  f(1)", "  f(1, b)"),
        ("rust", "fn f(a: i32) {", "fn f(a: i32, b: i32) {", "  f(1);", "  f(1, b);"),
        ("java", "  void f(int a) {", "  void f(int a, int b) {", "    f(1);", "    f(1, b);"),
        ("c", "void f(int a) {", "void f(int a, int b) {", "  f(1);", "  f(1, b);"),
    ],
)
def test_other_languages(language: str, old: str, new: str, call: str, wanted: str) -> None:
    head = old.replace("a: A", "b: B").replace("a: i32", "b: i32").replace("int a", "int b")
    head = head.replace("a int", "b int").replace("(a)", "(b)").replace(" f", " g")
    text = f"{new}\n}}\n\n{head}\n  x();\n{call}\n}}\n"
    start, end = ("class A {\n", "}\n") if language == "java" else ("", "")
    found = after(start + text + end, start.count("\n"), [old], [new], language=language)
    assert found == {5 + start.count("\n"): [wanted]}


def test_the_definition_after_a_call() -> None:
    text = "def f(a):\n    pass\n\n\nlimit = 1\n\nf(1, limit)\n"
    assert expected(text, (6, "f(1)"))[0] == ["def f(a, limit):"]
    method = "class A:\n    def f(self, a):\n        self.f(1, k=2)\n"
    assert expected(method, (2, "        self.f(1)"))[1] == ["    def f(self, a, k):"]
    assert expected(text.replace("limit)", "50)"), (6, "f(1)")) == {}, "it has no name yet"


def test_documentation_of_a_renamed_and_a_removed_parameter() -> None:
    text = edit_pages.DOCUMENTED.format(new="price")
    found = after(text, 0, ["def pay(who, amount):"], ["def pay(who, price):"])
    assert found == {
        4: ["    :param int price: how much"],
        8: ["        price (int): how much"],
        13: ["    price : int"],
    }
    gone = text.replace("def pay(who, price)", "def pay(who)")
    found = after(gone, 0, ["def pay(who, amount):"], ["def pay(who):"])
    assert {first: drafts[0] for first, drafts in found.items()} == {4: "", 8: "", 13: ""}
