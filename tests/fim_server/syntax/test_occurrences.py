"""The syntactic role of a name's occurrences, in several languages."""

from __future__ import annotations

import pytest

from fim_server.syntax.definitions import parsed
from fim_server.syntax.languages import language_of
from fim_server.syntax.occurrences import Role, occurrences


def kinds(language: str, text: str) -> str:
    """The role of each occurrence of `it`: p(arameter), b(inds), d(efines), n(ame), a(ttribute),
    k(eyword), t(ext).
    """
    known = language_of(language)
    assert known is not None
    found = []
    for occurrence in occurrences("it", text.split("\n"), parsed(text, known), known):
        if occurrence.defines:
            found.append("d")
        elif occurrence.role is not Role.NAME:
            found.append(occurrence.role.value[0])
        else:
            found.append("p" if occurrence.parameter else "b" if occurrence.binds else "n")
    return "".join(found)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", "import it\nfrom it import x\nfrom x import it", "bnb"),
        ("python", "def it(it, y=it, *it, **it): pass", "dpnpp"),
        ("python", "it = it + it\nit += 1\nx[it] = 1", "bnnbn"),
        ("python", "for it in it: pass\nwith x as it: pass\n[it for it in y]", "bnbnb"),
        ("python", "x.it = it.it\nf(it=it)", "anakn"),
        ("python", "'it'\n# it\nf'it {it}'", "tttn"),
        ("python", "class it:\n    def it(self): it", "ddn"),
        ("javascript", "function it(it) { const it = it; this.it = `it ${it}`; }", "dpbnatn"),
        ("go", "func f(it int) { it := 1; a.it = it }", "pban"),
        ("rust", "fn f(it: i32) { let it = 1; a.it = it; }", "pban"),
        ("java", "class A { int f(int it) { this.it = it; return a.it(); } }", "pana"),
    ],
)
def test_roles(language: str, text: str, expected: str) -> None:
    assert kinds(language, text) == expected


def test_functions_and_the_objects_of_attributes() -> None:
    text = "def f(it):\n    g(it=1)\n    self.it = lambda it: it"
    python = language_of("python")
    assert python is not None
    found = occurrences("it", text.split("\n"), parsed(text, python), python, 10)
    assert [occurrence.line for occurrence in found] == [10, 11, 12, 12, 12]
    assert [[function.name for function in occurrence.functions] for occurrence in found] == [
        ["f"], ["f"], ["f"], ["", "f"], ["", "f"],
    ]  # fmt: skip
    assert [occurrence.of for occurrence in found] == ["", "g", "self", "", ""]


def test_without_syntax_everything_is_a_name() -> None:
    found = occurrences("it", ["it 'it' with", "é it"], None, None)
    assert [(occurrence.line, occurrence.start, occurrence.role) for occurrence in found] == [
        (0, 0, Role.NAME), (0, 4, Role.NAME), (1, 2, Role.NAME),
    ]  # fmt: skip
