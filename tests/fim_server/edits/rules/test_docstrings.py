"""Rule: the documentation of parameters that were renamed or removed."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

after = partial(edit_pages.after, rules=("docstrings",))


def gone(text: str, *, parameters: str = "who") -> dict[int, list[str]]:
    """The drafts after the parameter `amount` was removed."""
    return after(text, 0, ["def pay(who, amount):"], [f"def pay({parameters}):"])


def test_entries_of_a_removed_parameter_go_with_the_lines_that_continue_them() -> None:
    text = edit_pages.DOCUMENTED.format(new="price").replace("def pay(who, price)", "def pay(who)")
    assert gone(text) == {4: [""], 8: [""], 13: [""]}


def test_a_renamed_parameter_inside_the_function_is_left_to_renames() -> None:
    text = edit_pages.DOCUMENTED.format(new="price")
    assert after(text, 0, ["def pay(who, amount):"], ["def pay(who, price):"]) == {}


@pytest.mark.parametrize(
    "entry",
    [
        "    It takes the amount: all of it.",
        "    The amount of it.",
        '    """amount: how much"""',
        "    amount: how much\n" + "        and more\n" * 4,
    ],
)
def test_what_only_mentions_a_parameter_stays_and_so_does_a_long_entry(entry: str) -> None:
    assert gone(f'def pay(who):\n    """Pay.\n\n{entry}\n    """\n') == {}


def test_the_entry_of_another_function_stays() -> None:
    other = 'def owe(amount):\n    """Owe.\n\n    :param amount: how much\n    """\n'
    assert gone(f'def pay(who):\n    """Pay."""\n\n\n{other}') == {}


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        ("price, who", " * @param {number} price how much"),
        ("who", ""),
    ],
)
def test_tags_in_a_comment_above(new: str, wanted: str) -> None:
    above = "/**\n * Pays.\n * @param {number} amount how much\n * @param who gets it\n */\n"
    text = f"{above}function pay({new}) {{\n}}\n"
    old = ["function pay(amount, who) {"]
    found = after(text, 5, old, [f"function pay({new}) {{"], language="javascript")
    assert found == {2: [wanted]}
