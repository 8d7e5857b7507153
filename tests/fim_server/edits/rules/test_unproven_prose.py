"""Words of prose are proposed only if the same words were replaced twice."""

from __future__ import annotations

import pytest

from fim_server.documents.diff import changed_words
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk
from fim_server.edits.rules import unproven_prose
from fim_server.edits.rules.unproven_prose import is_unproven_prose

URI = "file:///project/a.py"


def unproven(
    text: str, line: int, new: str, *edits: tuple[str, str], language: str = "python"
) -> bool:
    lines = split_lines(text)
    snapshot = Snapshot(URI, language, 1, 1, Encoding.UTF32, lines)
    hunks = [Hunk(URI, 0, (old,), (now,), 0.0) for old, now in edits]
    return is_unproven_prose(snapshot, line, [lines[line].rstrip("\n")], [new], hunks)


DOCUMENTED = 'def f():\n    """Added the thing.\n\n    Added the other thing.\n    """\n'
ONCE = ("    # Added the first", "    # The first")


def test_words_of_a_docstring_need_the_same_replacement_twice() -> None:
    arguments = (DOCUMENTED, 3, "    The other thing.")
    assert unproven(*arguments, ONCE)
    assert not unproven(*arguments, ONCE, ("Added the rest of it.", "The rest of it."))
    assert unproven(*arguments, ONCE, ("Added some", "Some"))


@pytest.mark.parametrize(
    ("text", "new", "language"),
    [
        ("x = 1  # the old value\n", "x = 1  # the new value", "python"),
        ('log("the old value of it")\n', 'log("the new value of it")', "python"),
        ("let x = 1; // the old value\n", "let x = 1; // the new value", "typescript"),
        ("The old value.\n", "The new value.", "markdown"),
    ],
)
def test_comments_strings_and_text_files_are_prose(text: str, new: str, language: str) -> None:
    assert unproven(text, 0, new, ("an old one", "a new one"), language=language)


def test_a_hunk_is_compared_once_for_all_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def counting(old: str, new: str) -> list[tuple[int, int, str]]:
        compared.append(old)
        return changed_words(old, new)

    monkeypatch.setattr(unproven_prose, "changed_words", counting)
    hunks = [(f"the old part {number}", f"the new part {number}") for number in range(50)]
    for _ in range(6):
        assert not unproven("The old value.\n", 0, "The new value.", *hunks, language="markdown")
    assert sorted(compared) == sorted([*(old for old, _ in hunks), *["The old value."] * 6])


@pytest.mark.parametrize(
    ("text", "line", "new"),
    [
        ("old = 1\nprint(old)\n", 1, "print(new)"),
        ("x = 'old'\n", 0, "x = 'new'"),
        ("def f(old):\n    '''Uses `old` often.'''\n", 1, "    '''Uses `new` often.'''"),
        ("def f(old):\n    '''F.\n\n    :param old: x\n    '''\n", 3, "    :param new: x"),
        ("def f(old):\n    '''F.\n\n    Args:\n        old: x y\n    '''\n", 4, "        new: x y"),
        ("x = 1  # the old_name of it\n", 0, "x = 1  # the new_name of it"),
        ("x = 1  # at most 50 rows\n", 0, "x = 1  # at most 80 rows"),
    ],
)
def test_code_and_what_is_marked_as_code_is_no_prose(text: str, line: int, new: str) -> None:
    assert not unproven(text, line, new, ("f(old)", "f(new)"))
