"""Edit sessions made from real code, with the changes that must follow.

A session is a file in which something was just edited, and the same file when everything that
follows is done. Local names and parameters (`edit_parameters.py`) are renamed by Python's own
scoping, so that attributes, keyword arguments, strings and other functions' names are known not to
follow. The other kinds are those of the training data (`examples/synthetic_edits.py`), in projects
that are not in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random
from typing import TypeGuard

from fim_training.evaluation.edit_parameters import draw_parameter
from fim_training.evaluation.heldout_holes import Document
from fim_training.examples.grammars import PYTHON
from fim_training.examples.synthetic_edits import (
    NAME,
    REACH,
    REPEATED,
    EditCase,
    missing_import,
    misspelling,
    repeated_change,
)

_TRIES = 400
_TOKEN = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|\w+|\s+|.")
_REPEATS = ("literal", "argument")

LineChange = tuple[int, int, tuple[str, ...]]
"""Lines `[first, end)` of a text, counted from 0, and their new lines."""


@dataclass(frozen=True, slots=True)
class EditSession:
    """`text` is the file now, `done` the file when everything is done; equal if nothing is left.

    edits: (line in `text` from 0, old line or "" for an inserted one, new line), oldest first.
    """

    kind: str
    path: str
    text: str
    done: str
    edits: tuple[tuple[int, str, str], ...]
    project: str = ""

    @property
    def wanted(self) -> set[LineChange]:
        """The changes that must still follow."""
        return line_changes(self.text, self.done)

    @property
    def finished(self) -> EditSession:
        """The session with everything done: nothing should be proposed any more."""
        lines = self.done.split("\n")
        edits = tuple(
            (lines.index(now) if now in lines else line, before, now)
            for line, before, now in self.edits
        )
        return EditSession("finished", self.path, self.done, self.done, edits, self.project)


def line_changes(before: str, after: str) -> set[LineChange]:
    """The changes between two texts, line by line where the numbers of lines agree."""
    old, new = before.split("\n"), after.split("\n")
    changes: set[LineChange] = set()
    for tag, low, high, from_, to in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "replace" and high - low == to - from_:
            changes |= {
                (low + at, low + at + 1, (new[from_ + at],))
                for at in range(high - low)
                if old[low + at] != new[from_ + at]
            }
        elif tag != "equal":
            changes.add((low, high, tuple(new[from_:to])))
    return changes


def draw_sessions(
    documents: Sequence[Document], kind: str, count: int, seed: int
) -> list[EditSession]:
    """At most `count` sessions of a kind (of KINDS, or "lone"), determined by documents and seed.

    Each is made from a random file of a random project. Fewer if the documents do not have enough.
    """
    rng = Random(f"{seed} {kind}")
    projects: dict[str, list[Document]] = {}
    for document in documents:
        if document.text.strip() and "\r" not in document.text:
            projects.setdefault(document.project, []).append(document)
    names, found = sorted(projects), dict[EditSession, None]()
    draw = LONE if kind == "lone" else KINDS[kind]
    for _ in range(_TRIES * count if names else 0):
        if len(found) == count:
            break
        document = rng.choice(projects[rng.choice(names)])
        session = draw(document, rng)
        if session is not None and bool(session.wanted) is not (kind == "lone"):
            found[session] = None
    return list(found)


def scoped_rename(document: Document, rng: Random) -> EditSession | None:
    """A local name is renamed at its first occurrence; its other occurrences must follow."""
    try:
        tree = ast.parse(document.text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    functions = [node for node in ast.walk(tree) if _is_plain_function(node)]
    if not functions or not document.text.isascii():
        return None
    function = rng.choice(functions)
    places = _local_names(function)
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    lines = document.text.split("\n")
    names = sorted(
        name
        for name, where in places.items()
        if len(name) > 2
        and name not in keywords
        and len({line for line, _ in where}) > 1
        and all(lines[line].startswith(name, column) for line, column in where)
        and not _is_documented_name(name, function, lines)
    )
    if not names:
        return None
    name = rng.choice(names)
    renamed = REPEATED[0][2](name, lines, rng, PYTHON)
    if not renamed.isidentifier() or re.search(rf"\b{renamed}\b", document.text):
        return None
    done = _replaced(lines, places[name], name, renamed)
    first = min(line for line, _ in places[name])
    now = [done[line] if line == first else text for line, text in enumerate(lines)]
    edits = ((first, lines[first], now[first]),)
    text = "\n".join(now)
    return EditSession("rename", document.path, text, "\n".join(done), edits, document.project)


def repeated(document: Document, rng: Random) -> EditSession | None:
    """A literal or a call was changed in some places; the other places must follow."""
    lines = _stretch(document, rng)
    at = rng.randrange(len(lines))
    case = repeated_change(lines, at, rng) if lines[at].strip() else None
    if case is None or case.kind not in _REPEATS:
        return None
    change = _token_change(case.old, case.new)
    if change is None:
        return None
    old, new = change
    text = f"{case.prefix}{case.old}{case.suffix}"
    if re.search(rf"\bdef\s+{re.escape(old)}", text):
        return None  # the order of arguments in a call may differ from the definition's
    site = re.compile(rf"(?<!\w){re.escape(old)}")
    lines = text.split("\n")
    done = "\n".join(line if new in line else site.sub(lambda _: new, line) for line in lines)
    if f"{case.prefix}{case.new}{case.suffix}".count(new) > done.count(new):
        return None
    return _session(case, document, text, done)


def typo(document: Document, rng: Random) -> EditSession | None:
    """A misspelt name was just typed; it must be corrected."""
    return _of_case(misspelling, document, rng)


def lacking_import(document: Document, rng: Random) -> EditSession | None:
    """A name was just used that is not imported; its import must follow."""
    return _of_case(missing_import, document, rng)


def parameter(document: Document, rng: Random) -> EditSession | None:
    """A parameter was added, removed or renamed in a definition; calls and body must follow."""
    case = draw_parameter(document.text, rng)
    if case is None:
        return None
    text, done = "\n".join(case.now), "\n".join(case.done)
    edits = ((case.at, case.before[case.at], case.now[case.at]),)
    return EditSession("parameter", document.path, text, done, edits, document.project)


def literal(document: Document, rng: Random) -> EditSession | None:
    """A literal was changed in some places; the other places must follow."""
    session = repeated(document, rng)
    return session if session is not None and session.kind == "literal" else None


def call(document: Document, rng: Random) -> EditSession | None:
    """Some calls got an argument; the other calls must follow."""
    session = repeated(document, rng)
    return session if session is not None and session.kind == "argument" else None


def leading_nowhere(document: Document, rng: Random) -> EditSession | None:
    """A line was just written, or one of its names replaced by another existing one; nothing
    follows."""
    lines = document.text.split("\n")
    at = rng.randrange(len(lines))
    before, now = "", lines[at]
    found = [match for match in NAME.finditer(now) if match[0] not in PYTHON.keywords]
    if not now.strip() or not found:
        return None
    if rng.random() < 0.5:
        taken = rng.choice(found)
        near = lines[max(at - REACH, 0) : at + REACH]
        other = rng.choice(PYTHON.names(NAME.findall("\n".join(near))))
        before, now = now, now[: taken.start()] + other + now[taken.end() :]
    if now == before:
        return None
    lines[at] = now
    text = "\n".join(lines)
    return EditSession("lone", document.path, text, text, ((at, before, now),), document.project)


KINDS: dict[str, Callable[[Document, Random], EditSession | None]] = {
    "rename": scoped_rename,
    "parameter": parameter,
    "literal": literal,
    "call": call,
    "typo": typo,
    "import": lacking_import,
}
LONE = leading_nowhere
"""Edits from which nothing follows."""


def _of_case(
    draw: Callable[[list[str], int, Random], EditCase | None], document: Document, rng: Random
) -> EditSession | None:
    lines = _stretch(document, rng, from_top=draw is missing_import)
    at = rng.randrange(len(lines))
    case = draw(lines, at, rng) if lines[at].strip() else None
    if case is None or not case.edits:
        return None
    text = f"{case.prefix}{case.old}{case.suffix}"
    return _session(case, document, text, f"{case.prefix}{case.new}{case.suffix}")


def _session(case: EditCase, document: Document, text: str, done: str) -> EditSession | None:
    edits = list(_placed(case.edits, text.split("\n")))
    if len(edits) < len(case.edits):
        return None
    return EditSession(case.kind, document.path, text, done, tuple(edits), document.project)


def _placed(
    edits: Sequence[tuple[str, str]], lines: Sequence[str]
) -> Iterator[tuple[int, str, str]]:
    """Edits without indentation, located in `lines` and indented as they are there."""
    for before, now in edits:
        place = next((at for at, line in enumerate(lines) if line.strip() == now), None)
        if place is not None:
            indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
            yield place, before and indent + before, lines[place]


def _stretch(document: Document, rng: Random, *, from_top: bool = False) -> list[str]:
    """REACH lines of a document, so that each is within reach of all others."""
    lines = document.text.split("\n")
    start = 0 if from_top else rng.randrange(max(len(lines) - REACH, 1))
    return lines[start : start + REACH]


def _token_change(old: str, new: str) -> tuple[str, str] | None:
    """The single replacement that turns `old` into `new`, an insertion with the word before it;
    None if there are several."""
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    found = set()
    for _, low, high, from_, to in changes:
        context = max(low - 2, 0) if low == high else low
        found.add(
            (
                "".join(before[context:high]),
                "".join(before[context:low]) + "".join(after[from_:to]),
            )
        )
    return found.pop() if len(found) == 1 and all(replaced for replaced, _ in found) else None


def _is_plain_function(node: ast.AST) -> bool:
    """Whether a node is a function without nested scopes."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    inner = (
        ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Global, ast.Nonlocal,
        ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.JoinedStr,
    )  # fmt: skip
    return not any(isinstance(child, inner) for child in ast.walk(node) if child is not node)


def _local_names(function: ast.AST) -> dict[str, set[tuple[int, int]]]:
    """The places (line and column, from 0) of each name that a function binds."""
    places: dict[str, set[tuple[int, int]]] = {}
    bound = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            bound.add(node.arg)
            places.setdefault(node.arg, set()).add((node.lineno - 1, node.col_offset))
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                bound.add(node.id)
            places.setdefault(node.id, set()).add((node.lineno - 1, node.col_offset))
    return {name: where for name, where in places.items() if name in bound and name != "self"}


def _is_documented_name(name: str, function: ast.AST, lines: Sequence[str]) -> bool:
    """Whether a function's comments or docstring contain a name: whether they must follow a rename
    cannot be known."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    first, end = getattr(function, "lineno", 1) - 1, getattr(function, "end_lineno", len(lines))
    comments = (line.partition("#")[2] for line in lines[first:end])
    docstring = ast.get_docstring(function, clean=False) if _is_documented(function) else None
    return any(word.search(text) for text in (*comments, docstring or ""))


def _is_documented(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _replaced(lines: Sequence[str], places: set[tuple[int, int]], old: str, new: str) -> list[str]:
    done = list(lines)
    for line, column in sorted(places, reverse=True):
        done[line] = done[line][:column] + new + done[line][column + len(old) :]
    return done
