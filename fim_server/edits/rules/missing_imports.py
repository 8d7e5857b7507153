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
import sys
import typing
from collections.abc import Iterable, Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import read_import, top_level_imports
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
            place.role is Role.NAME and not place.binds and not place.defines for place in places
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
    the line that it sorts after, then around its neighbours."""
    new = read_import(line)
    if not present or new is None:
        return
    for number, text in present:
        old = read_import(text)
        if old is not None and old.module == new.module and old.is_list and new.is_list:
            end = text.index(old.written[-1]) + len(old.written[-1])
            yield LineEdit(number, end, end, f", {new.written[0]}")
    same_form = [
        (number, text) for number, text in present if _sort_key(text)[0] == _sort_key(line)[0]
    ] or list(present)
    before = [(number, text) for number, text in same_form if _sort_key(text) < _sort_key(line)]
    number, text = before[-1] if before else same_form[0]
    above = LineEdit(number, 0, 0, f"{line}\n")
    after = LineEdit(number, len(text), len(text), f"\n{line}")
    yield from (after, above) if before else (above, after)
    if (below := page.lines.get(number + 1)) is not None and read_import(below) is not None:
        yield LineEdit(number + 1, len(below), len(below), f"\n{line}")


def _sort_key(line: str) -> tuple[bool, str]:
    """Plain imports before `from` imports, then by module."""
    found = read_import(line)
    module = found.module if found else ""
    return line.lstrip().startswith("from"), module.strip("'\"").lower()
