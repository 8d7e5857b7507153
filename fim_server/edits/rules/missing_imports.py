"""Rule: an import for a name that was just used and is bound nowhere.

Where a name is imported from is known from the import lines of open documents, and for Python's own
modules from Python.
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
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import ImportLine, read_import, top_level_imports
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import tokens_added
from fim_server.syntax.occurrences import Role

_MAX_NAMES = 4
_MAX_SOURCES = 3

_STANDARD = {
    module.__name__: frozenset(getattr(module, "__all__", None) or dir(module))
    for module in (
        collections.abc, collections, contextlib, dataclasses, enum, functools, itertools, pathlib,
        typing,
    )
}  # fmt: skip
"""Modules whose names are usually imported one by one; the first that has a name is taken."""

_IMPORT = re.compile(r"\s*(?:from|import)\b")
"""The module that an import names is not used by it."""

_KNOWN = frozenset({*dir(builtins), *keyword.kwlist, *keyword.softkwlist, "self", "cls"})


def missing_imports(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """Imports of the names that the latest hunk uses and nothing on the page binds."""
    if page.language is None or hunk is not page.hunks[-1] or not page.has(hunk):
        return
    names = list(_unbound_names(page, hunk))[:_MAX_NAMES]
    if not names:
        return
    known = _import_lines_by_name(
        names, page.neighbour_imports, python=page.language.names[0] == "python"
    )
    present = top_level_imports(page)
    for name in names:
        for line in known.get(name, ())[:_MAX_SOURCES]:
            for rank, edit in enumerate(_insertions(page, present, line)):
                yield Draft(
                    (edit,),
                    f"{name} may lack an import",
                    Signs(rank=rank),
                    about=name,
                )


def _unbound_names(page: Page, hunk: Hunk) -> Iterator[str]:
    """New names of a hunk that are used as variables and bound nowhere."""
    for name in sorted(tokens_added(hunk)):
        if not NAME.fullmatch(name) or name in _KNOWN:
            continue
        places = page.occurrences(name)
        used = any(
            place.role is Role.NAME
            and not place.binds
            and not place.defines
            and not _IMPORT.match(page.lines[place.line])
            for place in places
        )
        if used and not any(place.binds or place.defines for place in places):
            yield name


def _import_lines_by_name(
    names: Sequence[str], neighbours: Iterable[str], *, python: bool
) -> dict[str, list[str]]:
    """For each name the lines that import it alone, the most frequent first."""
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
            home = next((module for module, public in _STANDARD.items() if name in public), None)
            counts[name] |= {f"from {home} import {name}": 0} if home else {}
    return {
        name: sorted(lines, key=lambda line: (-lines[line], line)) for name, lines in counts.items()
    }


def _insertions(page: Page, present: Sequence[tuple[int, str]], line: str) -> Iterator[LineEdit]:
    """Where a new import may go, likeliest first: into the list of the same module, then after
    the line that it sorts after, then before the one that it sorts before."""
    new = read_import(line)
    if not present or new is None:
        return
    same = [
        (number, old)
        for number, text in present
        if (old := read_import(text)) is not None and old.module == new.module
    ]
    alone = len(same) > 1 and all(len(old.names) == 1 for _, old in same)
    for number, old in same[:1] if not alone else ():
        if old.is_list and new.is_list:
            yield _listed(number, old, new.written[0])
    key = _sort_key(line)
    present = [found for found in present if _sort_key(found[1])[0] is not Group.FUTURE]
    group = [found for found in present if _sort_key(found[1])[0] == key[0]]
    near = [found for found in group if _sort_key(found[1])[1] == key[1]] or group
    before = [found for found in near or present if _sort_key(found[1]) < key]
    if before:
        number, text = before[-1]
        yield LineEdit(number, len(text), len(text), f"\n{line}")
    after = [found for found in near or present if _sort_key(found[1]) > key]
    if after:
        yield LineEdit(after[0][0], 0, 0, f"{line}\n")


def _listed(number: int, line: ImportLine, name: str) -> LineEdit:
    """The insertion of a name into a list of names: in order, if they are in order."""
    written = [*line.written]
    if written in (sorted(written, key=str.lower), sorted(written)):
        for start, old in zip(line.starts, written, strict=True):
            if old.lower() > name.lower():
                return LineEdit(number, start, start, f"{name}, ")
    end = line.starts[-1] + len(written[-1])
    return LineEdit(number, end, end, f", {name}")


class Group(IntEnum):
    """The groups of imports, in the usual order."""

    FUTURE = 0
    STANDARD = 1
    OTHER = 2
    RELATIVE = 3


def _sort_key(line: str) -> tuple[Group, bool, str]:
    """The group, plain imports before `from` imports, then the module."""
    found = read_import(line)
    module = (found.module if found else "").strip("'\"")
    root = module.partition(".")[0]
    group = Group.OTHER
    if module.startswith("."):
        group = Group.RELATIVE
    elif root == "__future__":
        group = Group.FUTURE
    elif root in sys.stdlib_module_names:
        group = Group.STANDARD
    return group, line.lstrip().startswith("from"), module.lower()
