"""Rule: an edit of a line, applied to similar lines."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

from fim_server.edits.rules.token_diff import merged

expected = partial(edit_pages.expected, rules=("similar_lines",))


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
def test_an_edit_is_applied_to_a_similar_line(
    base: str, theirs: str, ours: str, wanted: str | None
) -> None:
    assert merged(base, theirs, ours) == wanted


def test_the_third_of_three_similar_lines_and_the_other_branch() -> None:
    lines = [f"    self.{name} = {name}" for name in ("left", "right", "middle")]
    done = [f"    self.{name} = int({name})" for name in ("left", "right")]
    text = "\n\n".join([*done, lines[2]])
    assert expected(text, (0, lines[0]), (2, lines[1]))[4] == ["    self.middle = int(middle)"]
    branch = "if up:\n    move(x, step * 2)\nelse:\n    move(y, step)\n"
    assert expected(branch, (1, "    move(x, step)"))[3] == ["    move(y, step * 2)"]


def test_a_line_with_the_edit_already_applied_is_unchanged() -> None:
    text = "log(console, 'a')\n\nlog(console, 'b')\n"
    assert expected(text, (0, "log('a')")) == {}


def test_what_was_appended_to_a_line_of_another_shape() -> None:
    text = "node.line = 1  # type: ignore\nnode.end_line = node.line\nother(2)\n"
    found = expected(text, (0, "node.line = 1"))
    assert found == {1: ["node.end_line = node.line  # type: ignore"]}
