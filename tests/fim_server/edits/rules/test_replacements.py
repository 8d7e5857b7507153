"""Rule: other occurrences of replaced literals and passages."""

from __future__ import annotations

from functools import partial

import edit_pages

expected = partial(edit_pages.expected, rules=("replacements",))


def test_literals_and_passages() -> None:
    assert expected("x = 80\n\ny = 50 + 500\n", (0, "x = 50"))[2] == ["y = 80 + 500"]
    assert expected("x = 'b'\n\ny = 'a'\n", (0, "x = 'a'"))[2] == ["y = 'b'"]
    assert expected("use(total)\n\nlog(a.b.c + 1)\n", (0, "use(a.b.c)"))[2] == ["log(total + 1)"]
