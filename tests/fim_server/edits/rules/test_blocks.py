"""Rules on whole lines: what was done to lines is done to the same ones, and to those like them."""

from __future__ import annotations

from functools import partial

import edit_pages

from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk
from fim_server.edits.rules.page import Page
from fim_server.syntax.languages import language_of

after = partial(edit_pages.after, rules=("identical_blocks",))
inserted = partial(edit_pages.after, rules=("inserted_lines",))
alike = partial(edit_pages.after, rules=("like_blocks",))
moved = partial(edit_pages.after, rules=("moved_lines",))


def test_the_same_lines_change_alike_at_any_indentation() -> None:
    text = "with open(a) as file:\n    pass\n\nif x:\n    open(a).close()\n    y = 1\n"
    new = ["with open(a) as file:", "    pass"]
    wanted = "    with open(a) as file:\n        pass"
    assert after(text, 0, ["open(a).close()"], new) == {4: [wanted]}


def test_fewer_lines_and_none() -> None:
    text = "log(1)\nx\n\n  first = get(1)\n  use(first)\n  y\n"
    old = ["first = get(1)", "use(first)"]
    assert after(text, 0, old, ["log(1)"]) == {3: ["  log(1)"]}
    assert after(text[7:], 0, old, []) == {2: [""]}


def test_lines_with_another_indentation_among_them_are_others() -> None:
    text = "if a:\n    log(1)\n\nif a:\nb()\n"
    assert after(text, 0, ["if a:", "    b()"], ["if a:", "    log(1)"]) == {}


def test_blank_lines_are_no_block() -> None:
    assert after("a = 1\n\n\nb = 2\n\n\n", 1, [""], []) == {}


def test_an_insertion_between_lines_that_meet_again() -> None:
    text = "def f():\n    begin()\n    log(1)\n    end()\n\n\n"
    text += "class A:\n    def g(self):\n        begin()\n        end()\n"
    assert inserted(text, 2, [], ["    log(1)"]) == {8: ["        begin()\n        log(1)"]}


def test_an_insertion_that_is_there_already_is_not_made_again() -> None:
    text = "begin()\nlog(1)\nend()\n\nbegin()\nlog(1)\nend()\n"
    assert inserted(text, 1, [], ["log(1)"]) == {}


def test_one_common_line_around_an_insertion_is_not_enough() -> None:
    text = "x = 1\nreturn x\nlog(1)\n\ny = 2\nreturn x\nend()\n"
    assert inserted(text, 2, [], ["log(1)"]) == {}


def test_one_common_line_is_enough_for_what_was_inserted_twice() -> None:
    text = "".join(f"def test_{n}():\n    setup()\n{{}}    run({n})\n\n" for n in range(3))
    text = text.format("    log(1)\n", "    log(1)\n", "")
    snapshot = Snapshot(edit_pages.URI, "python", 1, 1, Encoding.UTF32, split_lines(text))
    hunks = [Hunk(edit_pages.URI, at, (), ("    log(1)",), 0.0) for at in (2, 7)]
    page = Page(snapshot, 7, language_of("python"), hunks)
    assert edit_pages.drafts(page, "inserted_lines") == {11: ["    setup()\n    log(1)"]}
    once = Page(snapshot, 7, language_of("python"), hunks[:1])
    assert edit_pages.drafts(once, "inserted_lines") == {}


def test_lines_of_the_same_form_change_with_their_own_names() -> None:
    text = "check(left)\nself.left = int(left)\n\nself.right = right\n"
    new = ["check(left)", "self.left = int(left)"]
    found = alike(text, 0, ["self.left = left"], new)
    assert found == {3: ["check(right)\nself.right = int(right)"]}


def test_parts_of_names_are_carried_over() -> None:
    text = "def get_left():\n    log('get_left')\n    return left\n\n"
    text += "def get_right():\n    return right\n"
    found = alike(text, 1, [], ["    log('get_left')"])
    assert found == {4: ["def get_right():\n    log('get_right')"]}


def test_keywords_are_no_names() -> None:
    assert alike("return b + 1\n\nawait a + 1\n", 0, ["return a + 1"], ["return b + 1"]) == {}


def test_a_name_that_would_stand_for_two_is_not_carried_over() -> None:
    assert alike("f(a, b, 1)\n\nf(c, d)\n", 0, ["f(a, a)"], ["f(a, b, 1)"]) == {}


def test_lines_written_again_are_deleted_where_they_were() -> None:
    text = "import b\nimport a.c\n\nimport a.c\nx = 1\n"
    assert moved(text, 1, [], ["import a.c"]) == {3: [""]}
    assert moved(f"{text}import a.c\n", 1, [], ["import a.c"]) == {}, "which of two is unknown"
