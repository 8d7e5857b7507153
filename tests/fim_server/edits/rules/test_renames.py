"""Rule: which other occurrences of a renamed name follow, and which do not."""

from __future__ import annotations

from functools import partial

import edit_pages
from edit_pages import URI

from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk
from fim_server.edits.rules.page import Page
from fim_server.syntax.languages import language_of

expected = partial(edit_pages.expected, rules=("renames",))

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


def test_a_local_name_is_replaced_only_in_its_function() -> None:
    found = expected(LOCAL, (2, "def cost(total, price):"), (4, "    total += order.total"))
    assert found[6] == ["    return amount * price"]
    assert found[3] == ["    '''The total of `amount` things; :param amount: no more.'''"]
    assert set(found) == {3, 6}, "no attribute, keyword, comment, global or other function's"


def test_a_global_name_is_replaced_where_it_is_not_shadowed() -> None:
    text = "limit = 0\n\ndef f():\n    return size + x.size\n\ndef g(size):\n    return size\n"
    assert expected(text, (0, "size = 0")) == {3: ["    return limit + x.size"]}


def test_an_attribute_of_the_same_object() -> None:
    text = "self.price = 1\n\nx = self.cost\n\ny = cost\n\nz = other.cost\n"
    assert expected(text, (0, "self.cost = 1")) == {2: ["x = self.price"]}


def test_a_definition_is_renamed_at_all_its_uses() -> None:
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


def test_replacing_a_name_by_an_existing_one_is_not_a_rename() -> None:
    """Unless the replacement is repeated."""
    text = "def f(a, b):\n    x = b\n\n    y = a\n\n    z = b\n"
    assert expected(text, (1, "    x = a")) == {}
    assert expected(text, (1, "    x = a"), (5, "    z = a"))[3] == ["    y = b"]
    on_its_line = "def f(a, b):\n    x = (b, b)\n\n    y = a\n"
    assert expected(on_its_line, (1, "    x = (a, b)")) == {}


def test_other_documents_follow_what_they_can_see() -> None:
    lines = split_lines("from b import size\n\nsize(1)\n\ndef f(size):\n    size(2)\n")
    snapshot = Snapshot(URI, "python", 1, 1, Encoding.UTF32, lines)

    def follows(old: str, new: str) -> dict[int, str]:
        hunk = Hunk("file:///project/b.py", 0, (old,), (new,), 0.0)
        found = edit_pages.drafts(Page(snapshot, 0, language_of("python"), [hunk]), "renames")
        return {first: texts[0] for first, texts in found.items()}

    exported = follows("def size(): pass", "def area(): pass")
    assert exported == {0: "from b import area", 2: "area(1)"}
    assert follows("    size = 1", "    area = 1") == {}, "a local name of another file"


def test_a_rename_in_lines_that_were_wrapped_as_well() -> None:
    text = (
        "from certs import (dict_from_string,\n                   DEFAULT_CA_PATH)\n\n\n"
        "def locate(verify):\n    return verify or CA_PATH\n"
    )
    found = edit_pages.after(
        text,
        0,
        ["from certs import (dict_from_string, CA_PATH)"],
        ["from certs import (dict_from_string,", "                   DEFAULT_CA_PATH)"],
        rules=("renames",),
    )
    assert found == {5: ["    return verify or DEFAULT_CA_PATH"]}
