"""Whether a suggestion makes a document parse worse, and which of its names stand nowhere else."""

from __future__ import annotations

import pytest

from fim_server.syntax import languages
from fim_server.syntax.known_names import Unknown, new_names, stands_in, unknown
from fim_server.syntax.languages import language_of
from fim_server.syntax.parsing import parsed
from fim_server.syntax.soundness import breaks, errors, with_line


def broken(text: str, answer: str, name: str = "python") -> bool:
    before, _, after = text.partition("|")
    language = language_of(name)
    assert language is not None
    root = parsed(before + answer + after, language)
    assert root is not None
    return breaks(root, before, after, language)


@pytest.mark.parametrize(
    ("name", "text", "good", "bad"),
    [
        ("python", "def f(a):\n    |\n    return a\n", "a += 1", "a += ("),
        ("python", "total = |\nprint(total)\n", "sum(range(3))", "sum(range(3)"),
        ("python", "if ready|\n    go()\n", ":", ") :"),
        ("javascript", "function f(a) {\n  return |\n}\n", "a.b;", "a.b) {"),
        ("typescript", "interface Point {\n  x|\n  y: number;\n}\n", ": number;", " {"),
        ("c", "int main(void) {\n  int n = |\n  return n;\n}\n", "3;", "3 }"),
        ("go", "package a\n\nfunc f() int {\n\treturn |\n}\n", "1", "1)"),
        ("rust", "fn f() -> u8 {\n    let n = |\n    n\n}\n", "3;", "3 };"),
        ("java", "class A {\n  int n = |\n}\n", "3;", "3);"),
    ],
)
def test_what_does_not_parse_breaks_the_document(name: str, text: str, good: str, bad: str) -> None:
    assert not broken(text, good, name)
    assert broken(text, bad, name)


def test_what_was_broken_before_is_not_held_against_an_answer() -> None:
    unfinished = "def f(:\n    pass\n\nx = |\n"
    assert not broken(unfinished, "1")
    assert broken(unfinished, "(1")


def test_an_excerpt_that_begins_inside_a_block_is_judged_by_what_is_added() -> None:
    excerpt = "    }\n  }\n}\n\nfunction g() {\n  return |\n}\n"
    assert not broken(excerpt, "1;", "javascript")
    assert broken(excerpt, "(1;", "javascript")


def test_an_indentation_that_the_user_chose_is_not_held_against_an_answer() -> None:
    text = "def f():\n    a = 1\n        b|\n    return a\n"
    assert not broken(text, " = 2")
    assert broken(text, " = (2")


def test_errors_counts_what_is_wrong_and_what_is_missing() -> None:
    python = language_of("python")
    assert python is not None
    for text, count in (("x = 1\n", 0), ("x = (1\n", 1), ("x = (1\ny = )\n", 2)):
        root = parsed(text, python)
        assert root is not None
        assert (errors(root) > 0) == (count > 0), text


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ("a\nb", "c\nd", "a\n\nd"),
        ("b", "c", ""),
        ("a\n", "", "a\n"),
        ("", "\n", "\n"),
    ],
)
def test_another_line_takes_the_place_of_the_cursors(before: str, after: str, left: str) -> None:
    assert with_line(before, "", after) == left


def test_a_name_is_a_whole_word() -> None:
    assert stands_in("width", "(width)")
    assert stands_in("width", "bandwidth width")
    assert not stands_in("width", "bandwidth width_2")
    assert stands_in("größe", "x.größe")
    assert not stands_in("a", "")


@pytest.mark.parametrize(
    ("before", "text", "after", "others", "found"),
    [
        ("x = ", "wid + height", "\nheight = 1\n", (), ["wid"]),
        ("x = wid", "th + 1", "\nwidth = 1\n", (), []),
        ("x = wid", "ht + 1", "\nwidth = 1\n", (), ["widht"]),
        ("x = ", "get_", "width()\n", (), ["get_width"]),
        ("x = ", "area(3)", "\n", ("def area(radius): ...",), []),
        ("x = ", "area(3) + area(4)", "\n", ("def areas(): ...",), ["area"]),
        ("x = ", "3", "\n", (), []),
    ],
)
def test_new_names_are_those_that_a_text_makes_or_completes(
    before: str, text: str, after: str, others: tuple[str, ...], found: list[str]
) -> None:
    assert list(new_names(before, text, after, others)) == found


def unknown_in(text: str, answer: str, name: str = "python") -> Unknown:
    before, _, after = text.partition("|")
    language = language_of(name)
    assert language is not None
    completed = before + answer + after
    root = parsed(completed, language)
    assert root is not None
    names = list(new_names(before, answer, after, ()))
    return unknown(names, root, completed, (len(before), len(before) + len(answer)), language)


@pytest.mark.parametrize(
    ("name", "answer", "names", "attributes"),
    [
        ("python", "return frobnicate(a)", ("frobnicate",), ()),
        ("python", "return len(a)", (), ()),
        ("python", "b = a", (), ()),
        ("python", "b = c = frob", ("frob",), ()),
        ("python", "for i, item in enumerate(a): pass", (), ()),
        ("python", "return a.frob", (), ("frob",)),
        ("python", "a.append('frob')", (), ()),
        ("python", "from frob import nicate", (), ()),
        ("python", "return f(a, frob=1)", (), ("frob",)),
        ("python", "return [y for y in a]", (), ()),
        ("python", "return lambda q: q", (), ()),
        ("python", "pass  # frob the nicator", (), ()),
    ],
)
def test_unknown_names_are_used_but_neither_bound_nor_built_in(
    name: str, answer: str, names: tuple[str, ...], attributes: tuple[str, ...]
) -> None:
    found = unknown_in("def f(a):\n    |\n", answer, name)
    assert (found.names, found.attributes) == (names, attributes)


def test_unknown_names_of_a_script() -> None:
    text = "function f(a) {\n  |\n}\n"
    assert unknown_in(text, "const b = frob(a);", "javascript") == Unknown(("frob",))
    assert unknown_in(text, "return a.frob;", "javascript") == Unknown((), ("frob",))
    assert unknown_in(text, "return Math.max(...a);", "javascript") == Unknown()
    assert unknown_in(text, "return (b) => b + 1;", "javascript") == Unknown()


def test_every_grammar_has_its_built_in_names() -> None:
    from fim_server.syntax.known_names import built_in

    for language in languages.LANGUAGES:
        assert built_in(language.package), language.names
