"""The baseline for next edits: search and replace of a renamed identifier within its scope."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fim_training.evaluation.baselines import indentation
from fim_training.evaluation.edit_sessions import EditSession, LineChange

_NAME = re.compile(r"[^\W\d]\w*")
_DEFINITION = re.compile(r"\s*(?:async\s+)?(?:def|class)\b")


def search_and_replace(session: EditSession) -> set[LineChange]:
    """The changes that replace a renamed identifier in every line of its scope.

    The scope is the definition around the last edit, by indentation, or the file. Empty unless that
    edit renames exactly one identifier.
    """
    line, before, now = session.edits[-1]
    change = _renamed(before, now)
    if change is None:
        return set()
    old, new = change
    lines = session.text.split("\n")
    first, end = _scope(lines, line)
    pattern = re.compile(rf"\b{re.escape(old)}\b")
    return {
        (at, at + 1, (pattern.sub(new, lines[at]),))
        for at in range(first, end)
        if pattern.search(lines[at])
    }


def _renamed(before: str, now: str) -> tuple[str, str] | None:
    """The old and the new identifier, if one rename is all that changed."""
    names = zip(_NAME.findall(before), _NAME.findall(now), strict=False)
    changed = {(old, new) for old, new in names if old != new}
    if len(changed) != 1 or _NAME.sub("", before) != _NAME.sub("", now):
        return None
    return changed.pop()


def _scope(lines: Sequence[str], at: int) -> tuple[int, int]:
    first = next((n for n in range(at, -1, -1) if _encloses(lines, n, at)), None)
    if first is None:
        return 0, len(lines)
    outer = indentation(lines[first])
    for end in range(first + 1, len(lines)):
        line = lines[end]
        closes = line.lstrip().startswith((")", "]"))  # the end of a signature of several lines
        if line.strip() and indentation(line) <= outer and not closes:
            return first, end
    return first, len(lines)


def _encloses(lines: Sequence[str], candidate: int, at: int) -> bool:
    deeper = indentation(lines[candidate]) < indentation(lines[at]) or candidate == at
    return deeper and _DEFINITION.match(lines[candidate]) is not None
