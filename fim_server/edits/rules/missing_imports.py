"""Imports that an edit made necessary or needless, by the names that came and went.

Python's and JavaScript's import lines are read, one line each. What a name is imported from is
known from neighbouring documents, and for Python's own modules from Python.
"""

from __future__ import annotations

import builtins
import collections
import collections.abc
import contextlib
import dataclasses
import enum
import functools
import itertools
import keyword
import pathlib
import re
import sys
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fim_server.documents.documents import without_end
from fim_server.edits.rules.clues import NAME, Clue
from fim_server.edits.rules.drafts import DOUBT, LineEdit, Suggestion
from fim_server.edits.rules.page import MOST_LINE_CHARS, Page
from fim_server.syntax.occurrences import Role

_WEIGHT = 2.8
_MOST_NEW_NAMES = 4
_MOST_SOURCES = 3
_TOP = 200
"""Lines of a document in which its imports are looked for."""

_FROM = re.compile(r"^(\s*)from\s+([\w.]+)\s+import\s+\(?([\w ,]+?)\)?\s*(?:#.*)?$")
_PLAIN = re.compile(r"^(\s*)import\s+([\w.]+)(?:\s+as\s+(\w+))?\s*$")
_SCRIPT = re.compile(
    r"^(\s*)(?:import\s+(?:type\s+)?(?:(?:\*\s+as\s+)?(\w+)|\{([\w\s,]+)\})\s+from\s+(['\"][^'\"]+['\"])"
    r"|(?:const|let|var)\s+(?:(\w+)|\{([\w\s,]+)\})\s*=\s*require\((['\"][^'\"]+['\"])\))\s*;?\s*$"
)
_STANDARD = {
    one.__name__: frozenset(getattr(one, "__all__", None) or dir(one))
    for one in (
        collections.abc, collections, contextlib, dataclasses, enum, functools, itertools, pathlib,
        typing,
    )
}  # fmt: skip
"""Modules whose names are imported one by one, by custom; of equals the first."""
_KNOWN = frozenset({*dir(builtins), *keyword.kwlist, *keyword.softkwlist, "self", "cls"})


@dataclass(frozen=True, slots=True)
class ImportLine:
    """A line that imports names: each with how it is written there, and the line for it alone."""

    text: str
    names: tuple[str, ...]
    written: tuple[str, ...]
    alone: tuple[str, ...]
    source: str


def read_import(line: str) -> ImportLine | None:
    """None for what is no import, or none of one line."""
    if match := _PLAIN.match(line):
        name = match[3] or match[2].partition(".")[0]
        return ImportLine(line, (name,), (match[2],), (line.strip(),), match[2])
    if match := _FROM.match(line):
        return _listed(line, match[3], f"from {match[2]} import {{}}", match[2])
    if match := _SCRIPT.match(line):
        source = match[4] or match[7]
        if one := match[2] or match[5]:
            return ImportLine(line, (one,), (one,), (line.strip(),), source)
        listed = match[3] or match[6]
        return _listed(line, listed, line.strip().replace(listed, " {} "), source)
    return None


def _listed(line: str, listed: str, alone: str, source: str) -> ImportLine | None:
    parts = [one.strip() for one in listed.split(",") if one.strip()]
    names = tuple(NAME.findall(one)[-1] for one in parts if NAME.search(one))
    if len(names) != len(parts):
        return None
    return ImportLine(
        line, names, tuple(parts), tuple(alone.replace("{}", one) for one in parts), source
    )


def missing_imports(
    page: Page, clues: Sequence[Clue], neighbours: Iterable[str]
) -> Iterator[Suggestion]:
    """A line for a name that was just used and is bound nowhere; neighbours are import lines of
    other documents."""
    if page.language is None or clues[0].hunk.uri != page.snapshot.uri:
        return
    names = list(_unbound(page, clues[0]))[:_MOST_NEW_NAMES]
    if not names:
        return
    known = _sources(names, neighbours, python=page.language.names[0] == "python")
    there = _block(page)
    for name in names:
        for line in known.get(name, ())[:_MOST_SOURCES]:
            for rank, edit in enumerate(_insertions(page, there, line)):
                reason = f"{name} may lack an import"
                weight, doubt = _WEIGHT - 0.1 * rank, DOUBT * rank
                yield Suggestion((edit,), reason, weight, about=name, doubt=doubt)


def needless_imports(
    page: Page, clues: Sequence[Clue], edited: Collection[int]
) -> Iterator[Suggestion]:
    """The import of a name that went with an edit and is used no more."""
    gone = {name for clue in clues for name in clue.gone if NAME.fullmatch(name)}
    if not gone:
        return
    for number, line in _block(page):
        found = None if number in edited else read_import(line)
        for at, name in enumerate(found.names if found else ()):
            if found is None or name not in gone:
                continue
            others = [one for one in page.occurrences(name) if one.line != number]
            if any(one.role is not Role.TEXT for one in others):
                continue
            start, end = _part(line, found.written, at)
            yield Suggestion(
                (LineEdit(number, start, end, "", drops=True),), f"{name} is used no more", _WEIGHT
            )


def import_lines(lines: Iterable[str]) -> list[str]:
    """Those of a document that can be read, at its top."""
    top = (without_end(line) for line in islice(lines, _TOP))
    return [line for line in top if len(line) <= MOST_LINE_CHARS and read_import(line)]


def _unbound(page: Page, clue: Clue) -> Iterator[str]:
    """New names that are used as such and bound nowhere."""
    for name in sorted(clue.come):
        if not NAME.fullmatch(name) or name in _KNOWN:
            continue
        places = page.occurrences(name)
        used = any(one.role is Role.NAME and not one.binds and not one.defines for one in places)
        if used and not any(one.binds or one.defines for one in places):
            yield name


def _sources(
    names: Sequence[str], neighbours: Iterable[str], *, python: bool
) -> dict[str, list[str]]:
    """For each name the lines that import it alone, the commonest first."""
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    for line in neighbours:
        found = read_import(line)
        for name, alone in zip(found.names, found.alone, strict=True) if found else ():
            if name in counts:
                counts[name][alone] = counts[name].get(alone, 0) + 1
    for name in names:
        if python and name in sys.stdlib_module_names:
            counts[name].setdefault(f"import {name}", 0)
        elif python and not counts[name]:
            home = next((one for one, names in _STANDARD.items() if name in names), None)
            counts[name] |= {f"from {home} import {name}": 0} if home else {}
    return {
        name: sorted(lines, key=lambda line: (-lines[line], line)) for name, lines in counts.items()
    }


def _block(page: Page) -> list[tuple[int, str]]:
    """The imports of a page that are not inside of anything."""
    return [
        (number, line)
        for number, line in page.lines.items()
        if not line[:1].isspace() and read_import(line) is not None
    ]


def _insertions(page: Page, there: Sequence[tuple[int, str]], line: str) -> Iterator[LineEdit]:
    """A new import behind the line that it sorts behind, and before and behind the lines next to
    that; where names of the same source are listed, among them first."""
    new = read_import(line)
    if not there or new is None:
        return
    for number, other in there:
        one = read_import(other)
        if one is not None and one.source == new.source and _lists(one) and _lists(new):
            end = other.index(one.written[-1]) + len(one.written[-1])
            yield LineEdit(number, end, end, f", {new.written[0]}")
    alike = [one for one in there if _sorts(one[1])[0] == _sorts(line)[0]] or list(there)
    before = [one for one in alike if _sorts(one[1]) < _sorts(line)]
    number, text = before[-1] if before else alike[0]
    ahead = LineEdit(number, 0, 0, f"{line}\n")
    behind = LineEdit(number, len(text), len(text), f"\n{line}")
    yield from (behind, ahead) if before else (ahead, behind)
    if (below := page.lines.get(number + 1)) is not None and read_import(below) is not None:
        yield LineEdit(number + 1, len(below), len(below), f"\n{line}")


def _lists(line: ImportLine) -> bool:
    """Whether more names could stand in it."""
    return line.text.lstrip().startswith("from") or "{" in line.text


def _sorts(line: str) -> tuple[bool, str]:
    found = read_import(line)
    source = found.source if found else ""
    return line.lstrip().startswith("from"), source.strip("'\"").lower()


def _part(line: str, written: Sequence[str], at: int) -> tuple[int, int]:
    """The characters of one name of a list with its comma; all of a line with a single name."""
    if len(written) == 1:
        return 0, len(line)
    spots, start = [], 0
    for one in written:
        start = line.index(one, start)
        spots.append((start, start + len(one)))
        start += len(one)
    if at + 1 < len(spots):
        return spots[at][0], spots[at + 1][0]
    return spots[at - 1][1], spots[at][1]
