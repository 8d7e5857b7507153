"""Lines put into one place or taken out of it: where the same is expected, and where not."""

from __future__ import annotations

import pytest
from edit_pages import after

BRANCH = "if up:\n    move(x, step)\nelse:\n    move(y, step)\nend()\n"


def test_a_line_that_came_in_the_other_branch() -> None:
    text = BRANCH.replace("move(x, step)", "move(x, step)\n    log(x)")
    assert after(text, 2, [], ["    log(x)"]) == {4: ["    move(y, step)\n    log(y)"]}
    first = BRANCH.replace("move(x, step)", "check(x)\n    move(x, step)")
    assert after(first, 1, [], ["    check(x)"]) == {3: ["else:\n    check(y)"]}


def test_a_line_that_went_in_the_other_branch() -> None:
    text = "if up:\n    move(x, step)\nelse:\n    move(y, step)\n    log(y)\nend()\n"
    assert after(text, 2, ["    log(x)"], []) == {4: [""]}


PAIR = """\
class A:
    def encode(self, text):
        data = self.table.read(text)
        return self.pack(data)

    def decode(self, text):
        data = self.table.write(text)
        return self.unpack(data)
"""


def test_paired_methods() -> None:
    check = "        self.check(data)"
    text = PAIR.replace("read(text)", f"read(text)\n{check}")
    assert after(text, 3, [], [check])[7][0].split("\n")[1] == check


def test_the_third_of_three_stretches_and_its_indentation() -> None:
    stretch = "{0}a.open({1}, mode)\n{0}a.close({1})\n\n"
    text = stretch.format("", "one").replace(")\na", ")\na.flush(one)\na", 1)
    text += "for x in y:\n" + stretch.format("\t", "two")
    assert after(text, 1, [], ["a.flush(one)"]) == {5: ["\ta.open(two, mode)\n\ta.flush(two)"]}


BOTH = BRANCH.replace("x, step)", "x, step)\n    log(x)").replace(
    "y, step)", "y, step)\n    log(y)"
)


@pytest.mark.parametrize(
    "text",
    [
        BOTH,
        "if up:\n    move(x, step)\n    log(x)\nelse:\n    y = 3\n",
        "if up:\n    move(x, step)\n    log(x)\nelse:\n    turn(y, step)[0]\n",
        "if up:\n    return None\n    log(x)\nelse:\n    return None\n",
    ],
)
def test_where_nothing_is_missing_or_nothing_is_alike(text: str) -> None:
    at = text.split("\n").index("    log(x)")
    assert after(text, at, [], ["    log(x)"]) == {}


def test_an_entry_of_a_list_says_nothing_of_the_others() -> None:
    rows = "\n".join(f"    add('{name}', x.{name})" for name in "abcdef")
    text = f"def f():\n{rows}\n"
    assert after(text, 3, [], ["    add('c', x.c)"]) == {}
