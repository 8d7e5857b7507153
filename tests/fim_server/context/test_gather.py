"""Snippets of other files: relevant, permitted, and stable while the user types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fim_server.access.exclusions import Exclusions
from fim_server.access.workspace import Workspace
from fim_server.context.gather import ContextQuery, Gatherer
from fim_server.context.snippet_selection import choose
from fim_server.context.snippets import OtherFile, ScoredSnippet, SnippetFinder, focus_at
from fim_server.documents.documents import DocumentStore, Place, Snapshot
from fim_server.settings.settings import Settings
from fim_server.syntax.definitions import definitions
from fim_server.syntax.languages import LANGUAGES, language_of, parser_for

SHAPES = '''\
import math


class Circle:
    """A round thing."""

    radius: float

    def area(self) -> float:
        return math.pi * self.radius ** 2


def make_circle(radius: float, name: str = "") -> Circle:
    """Make one."""
    circle = Circle()
    circle.radius = radius
    return circle
'''

MAIN = """\
from shapes import make_circle

def main():
    circle = make_circle(
"""


class Desk:
    """Open documents in a workspace folder."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.root = root
        self.store = DocumentStore()
        self.gatherer = Gatherer()
        self.workspace = Workspace([root], settings)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def open(self, name: str, text: str, version: int = 1) -> Snapshot:
        uri = (self.root / name).as_uri()
        self.store.open(uri, "python", version, text)
        snapshot = self.store.snapshot(uri)
        assert snapshot is not None
        return snapshot

    def query(self, document: Snapshot, max_snippets: int = 4, chars: int = 2000) -> ContextQuery:
        last = len(document.lines) - 1
        others = self.store.others(document.uri)
        place = Place(last, len(document.lines[last]))
        return ContextQuery(
            document, place, others, self.workspace, max_snippets, chars, copies=True
        )

    def texts(self, document: Snapshot) -> tuple[str, ...]:
        return self.gatherer.texts(self.query(document))

    def choice(
        self, document: Snapshot, max_snippets: int = 4, chars: int = 2000
    ) -> list[ScoredSnippet]:
        return self.gatherer.snippets(self.query(document, max_snippets, chars))


def test_the_definition_of_an_imported_name_comes_from_the_file_on_disk(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("shapes.py", SHAPES)
    [snippet] = desk.choice(desk.open("main.py", MAIN), max_snippets=1)
    assert (snippet.path, snippet.first) == ("shapes.py", 12)
    assert snippet.text == (
        'def make_circle(radius: float, name: str = "") -> Circle:\n    """Make one."""'
    )
    assert snippet.reason == "defines make_circle, used near the cursor"


def test_an_open_document_takes_precedence_over_its_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("shapes.py", "def make_circle(old): ...\n")
    desk.open("shapes.py", "def make_circle(new): ...\n")
    texts = [snippet.text for snippet in desk.choice(desk.open("main.py", MAIN))]
    assert texts == ["def make_circle(new): ..."]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pkg/shapes.py", "from pkg.shapes import make_circle"),
        ("pkg/shapes.py", "from pkg import shapes"),
        ("pkg/__init__.py", "import pkg as p"),
        ("src/pkg/shapes.py", "from pkg.shapes import (make_circle)"),
        ("app/shapes.py", "from .shapes import make_circle"),
        ("app/shapes.py", "from . import shapes"),
        ("lower/shapes.py", "from ..lower.shapes import make_circle"),
    ],
)
def test_the_ways_to_import(tmp_path: Path, name: str, line: str) -> None:
    desk = Desk(tmp_path)
    desk.write(name, SHAPES)
    found = desk.choice(desk.open("app/main.py", f"{line}\nmake_circle("))
    assert {snippet.path for snippet in found} == {name}


def test_excluded_files_give_no_snippets_even_if_open(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write(".gitignore", "generated.py")
    desk.write(".fimignore", "legal/")
    for name in ("generated.py", "legal/shapes.py", "secret.py", ".env"):
        desk.open(name, SHAPES)
    document = desk.open("main.py", MAIN.replace("shapes", "generated"))
    assert [snippet.path for snippet in desk.choice(document)] == ["secret.py"], (
        "code, not a secret"
    )
    desk.workspace = Workspace([tmp_path], Settings(exclude=("secret.py",)))
    assert desk.choice(document) == []


def test_an_untrusted_workspace_gives_no_snippets(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Settings(workspace_trusted=False))
    desk.open("shapes.py", SHAPES)
    assert desk.choice(desk.open("main.py", MAIN)) == []


def test_copies_come_from_open_documents_imported_files_and_the_same_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("app/shapes.py", SHAPES)
    desk.write("app/main_too.py", "beside = 1\n")
    desk.write("app/notes.txt", "no code\n")
    desk.write("lib/far.py", "far = 1\n")
    desk.open("lib/open.py", "opened = 1\n")
    main = desk.open("app/main.py", "from .shapes import Circle\nCircle(")
    assert desk.texts(main) == ("opened = 1\n", SHAPES, "beside = 1\n")


def test_copies_use_the_text_of_open_files_but_not_the_document_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("shapes.py", "old = 1\n")
    desk.write("main.py", "saved = 1\n")
    desk.open("shapes.py", "new = 1\r\n")
    assert desk.texts(desk.open("main.py", MAIN)) == ("new = 1\n",)


def test_nothing_is_copied_from_excluded_files_or_untrusted_folders(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.write(".gitignore", "generated.py")
    desk.write("generated.py", SHAPES)
    desk.open(".env", "KEY=1")
    main = desk.open("main.py", MAIN)
    assert desk.texts(main) == ()
    desk.write("shapes.py", SHAPES)
    assert desk.gatherer.texts(desk.query(desk.open("main.py", MAIN + "\n"))) == (SHAPES,)
    desk.workspace = Workspace([tmp_path], Settings(workspace_trusted=False))
    assert desk.texts(main) == ()


def test_texts_are_read_once_while_a_line_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fim_server.context import gather

    read: list[Path] = []
    read_allowed = gather.read_allowed

    def counted(path: Path, exclusions: Exclusions) -> str | None:
        read.append(path)
        return read_allowed(path, exclusions)

    monkeypatch.setattr(gather, "read_allowed", counted)
    desk = Desk(tmp_path)
    desk.write("shapes.py", SHAPES)
    for typed in ("a", "ab", "abc"):
        assert desk.texts(desk.open("main.py", typed)) == (SHAPES,)
    assert len(read) == 1
    desk.texts(desk.open("main.py", "abc\n"))
    assert len(read) == 2, "on another line they may have changed"


def test_no_excluded_file_is_ever_opened(tmp_path: Path) -> None:
    """Runs in a subprocess with an audit hook that records every `open`."""
    desk = Desk(tmp_path / "root")
    outside = tmp_path / "outside.py"
    outside.write_text(SHAPES)
    for name in ("shapes.py", "ignored.py", "secrets_dir/.env.py", "legal/a.py", "big.py"):
        desk.write(name, SHAPES)
    desk.write(".env", "KEY=1")
    desk.write(".gitignore", "ignored.py\n")
    desk.write(".fimignore", "legal/\n")
    (desk.root / "link.py").symlink_to(outside)
    (desk.root / "hidden.py").symlink_to(desk.root / ".env")
    (desk.root / "legal" / "__init__.py").write_text("")
    script = f"""
import os, sys
from pathlib import Path
from fim_server.context.gather import Gatherer, ContextQuery
from fim_server.access.workspace import Workspace
from fim_server.documents.documents import DocumentStore, Place
root = Path({str(desk.root)!r})
store = DocumentStore()
text = ("import shapes, ignored, link, hidden, legal.a\\n"
        "from legal import a\\nfrom .env import x\\nmake_circle(")
store.open((root / "main.py").as_uri(), "python", 1, text)
document = store.snapshot((root / "main.py").as_uri())
opened = []
sys.addaudithook(lambda name, args: opened.append(os.fsdecode(args[0]))
                 if name == "open" and isinstance(args[0], (str, bytes, os.PathLike)) else None)
query = ContextQuery(document, Place(3, 12), [], Workspace([root]), 8, 4000, copies=True)
gatherer = Gatherer()
chosen = gatherer.snippets(query)
print(sorted({{snippet.path for snippet in chosen}}))
print(sorted({{os.path.relpath(path, root) for path in opened if {str(tmp_path)!r} in path}}))
print(len(gatherer.texts(query)))
print(sorted({{os.path.relpath(path, root) for path in opened if {str(tmp_path)!r} in path}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    shown, opened, copied, opened_to_copy = done.stdout.splitlines()
    assert shown == "['shapes.py']"
    assert opened == "['.fimignore', '.gitignore', 'shapes.py']"
    assert copied == "1", "two files with the same text"
    assert opened_to_copy == "['.fimignore', '.gitignore', 'big.py', 'shapes.py']"


def test_recently_edited_places_are_shown_the_latest_first(tmp_path: Path) -> None:
    from lsprotocol import types as lsp

    desk = Desk(tmp_path)
    for name in ("a.py", "b.py"):
        document = desk.open(name, "\n".join(f"line_{name[0]}_{i}" for i in range(40)))
        spot = lsp.Position(20, 0)
        change = lsp.TextDocumentContentChangePartial(range=lsp.Range(spot, spot), text="x")
        desk.store.change(document.uri, 2, [change])
    found = desk.choice(desk.open("main.py", "unlike = "))
    assert [(snippet.path, snippet.first, snippet.end) for snippet in found] == [
        ("a.py", 16, 25),
        ("b.py", 16, 25),
    ]
    assert found[1].score > found[0].score
    assert found[1].reason == "edited at line 21, 0 files ago"


def test_similar_code_is_found_by_its_names() -> None:
    other = "\n".join(
        ["zero = 0"] * 30 + ["total = price * quantity + shipping"] + ["one = 1"] * 30
    )
    source = OtherFile("other.py", other, None, 1)
    found = SnippetFinder().find([source], focus_at("price, quantity, shipping\ntotal = ", ""))
    best = found[0]
    assert best.first <= 30 < best.end
    assert best.reason == "shares 80% of the names here"


def test_the_snippets_are_stable_while_typing_on_a_line(tmp_path: Path) -> None:
    """Changing the snippets invalidates all cached tokens of the prompt."""
    desk = Desk(tmp_path)
    desk.open("shapes.py", SHAPES)
    desk.open("tools.py", "def helper(value, other): ...\n\ndef circle_tool(circle): ...\n")
    line = "circle = make_circle(helper(circle_tool))"
    shown: set[tuple[tuple[str, str], ...]] = set()
    for end in range(len(line) + 1):
        document = desk.open("main.py", "import shapes\n" + line[:end], version=end + 1)
        shown.add(desk.gatherer.context(desk.query(document)).snippets)
    assert len(shown) == 1
    after = desk.open("main.py", f"import shapes\n{line}\n", version=99)
    assert "def helper(value, other): ..." in str(desk.gatherer.context(desk.query(after)).snippets)


def snippet(first: int, score: float, path: str = "a.py", text: str = "x" * 10) -> ScoredSnippet:
    return ScoredSnippet(path, first, first + 5, text, score, "")


def test_choose_respects_number_budget_and_overlap() -> None:
    best, overlapping, other, long = (
        snippet(0, 1.0),
        snippet(3, 0.9),
        snippet(20, 0.5),
        snippet(0, 0.8, "b.py", "x" * 500),
    )
    every = [best, overlapping, other, long]
    assert choose(every, [], 9, 100) == [best, other]
    assert choose(every, [], 1, 100) == [best]
    assert choose(every, [], 9, 15) == [best]
    assert choose(every, [], 9, 600) == [best, other, long], "in the order of their places"


def test_shown_snippets_are_replaced_only_by_clearly_better_ones() -> None:
    shown, better = snippet(0, 1.0), snippet(50, 1.4)
    assert choose([shown, better], [shown], 1, 100) == [shown]
    much_better = snippet(50, 1.6)
    assert choose([shown, much_better], [shown], 1, 100) == [much_better]


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.names[0])
def test_every_grammar_is_installed_and_names_its_nodes(language: object) -> None:
    parser = parser_for(language)  # type: ignore[arg-type]
    assert parser is not None
    assert parser.language is not None
    known = {parser.language.node_kind_for_id(i) for i in range(parser.language.node_kind_count)}
    for kinds in (language.definitions, language.blocks, language.texts):  # type: ignore[attr-defined]
        assert kinds <= known, kinds - known


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        (
            "python",
            "class A(B):\n  x: int\n\n  def f(self):\n    pass\n",
            ["class A(B):\n  x: int"],
        ),
        (
            "go",
            "func (s *S) Foo(a int) error {\n\treturn nil\n}\n",
            ["func (s *S) Foo(a int) error {"],
        ),
        ("rust", "struct S {\n a: u8,\n}\n", ["struct S {\n a: u8,\n}"]),
        ("c", "static int *foo(int a)\n{\n  return 0;\n}\n", ["static int *foo(int a)\n{"]),
        ("typescript", "type A = {\n  b: string;\n};\n", ["type A = {\n  b: string;\n};"]),
        ("python", "def broken(:\n", []),
    ],
)
def test_definitions_are_signatures(name: str, text: str, shown: list[str]) -> None:
    language = language_of(name)
    assert language is not None
    assert [definition.text for definition in definitions(text, language)][: len(shown)] == shown
