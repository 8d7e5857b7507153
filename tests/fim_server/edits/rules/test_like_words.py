"""Rule: an edit of words in names and strings, applied to lines of the same shape."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

after = partial(edit_pages.after, rules=("like_words",))


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "wanted"),
    [
        ("def test_warn_async(x):", "def test_error_async(x):", "def test_warn_async_loop(x):",
         "def test_error_async_loop(x):"),
        ('fail("only utf-8 encding: a")', 'fail("only utf-8 encoding: a")',
         'fail("only utf-8 encding: b or c")', 'fail("only utf-8 encoding: b or c")'),
        ("use(`z.FlatError`)", "use(`z.core.FlatError`)", "use(`z.TreeError`)",
         "use(`z.core.TreeError`)"),
    ],
)  # fmt: skip
def test_words_change_alike(base: str, theirs: str, ours: str, wanted: str) -> None:
    assert after(f"{theirs}\n\n{ours}\n", 0, [base], [theirs]) == {2: [wanted]}


@pytest.mark.parametrize(
    ("base", "theirs", "ours"),
    [
        ("wd.link(a)", "wd.link_dir(a)", "wd.create(a)"),  # not the word that was extended
        ("get_user(a)", "get_account(a)", "set_name(a)"),  # not the word that was replaced
        ("x.warn_a(1)", "x.error_a(1)", "x.error_b(1)"),  # it has the change already
    ],
)
def test_lines_that_do_not_have_the_word(base: str, theirs: str, ours: str) -> None:
    assert after(f"{theirs}\n\n{ours}\n", 0, [base], [theirs]) == {}
