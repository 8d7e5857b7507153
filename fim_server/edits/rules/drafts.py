"""Changes of a page that may follow from one thing a person did; whether they do is not said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MOST_DRAFTS = 6
"""Of one region."""

SURE = 8.0
"""Nats by which something is more expected that the syntax asks for: another place of the same
local name, a call that gives too few arguments or too many."""

DOUBT = 3.0
"""Nats by which something is less expected that only looks right; and of several ways to do the
same thing each less than the one before."""


@dataclass(frozen=True, slots=True, order=True)
class LineEdit:
    """Characters `[start, end)` of a line become `text`, which may have line ends (`\\n`).

    drops: what then is empty goes with its line end.
    """

    line: int
    start: int
    end: int
    text: str
    drops: bool = False


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Edits of several lines that belong together; `weight` is how promising they are, `reason`
    what a person is told. Of those with the same `about` one excludes the other. `doubt` is by how
    many nats less than others it is expected (`calibration/edit_priors.py`), below 0 more."""

    edits: tuple[LineEdit, ...]
    reason: str
    weight: float
    about: str = ""
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class Draft:
    """What the lines of a region may become, without line ends but between them, why, and by how
    many nats less than others that is expected."""

    text: str
    reason: str
    doubt: float = 0.0


def drafts(lines: Sequence[str], first: int, suggestions: Iterable[Suggestion]) -> list[Draft]:
    """What the lines from number `first` on become by all suggestions that agree with each other,
    and by each of them; the weightiest first."""
    end = first + len(lines)
    near: list[tuple[list[LineEdit], Suggestion]] = []
    for one in sorted(suggestions, key=lambda one: -one.weight):
        inside = [edit for edit in one.edits if first <= edit.line < end]
        if inside:
            near.append((inside, one))
    together: list[LineEdit] = []
    settled: set[str] = set()
    for inside, one in near:
        if one.about in settled or any(_collide(a, b) for a in inside for b in together):
            continue
        together += inside
        settled |= {one.about} - {""}
    old = "\n".join(lines)
    found: dict[str, Draft] = {}
    if near:
        joint = max(one.doubt for inside, one in near if inside[0] in together)
        near.insert(0, (together, replace(near[0][1], doubt=joint)))
    for edits, one in near:
        text = applied(lines, first, edits)
        if text != old:
            found.setdefault(text, Draft(text, one.reason, one.doubt))
    return list(found.values())[:MOST_DRAFTS]


def applied(lines: Sequence[str], first: int, edits: Iterable[LineEdit]) -> str:
    """The lines from number `first` on, after edits that do not collide."""
    changed: list[str | None] = list(lines)
    for edit in sorted(edits, reverse=True):
        line = changed[edit.line - first] or ""
        line = line[: edit.start] + edit.text + line[edit.end :]
        changed[edit.line - first] = None if edit.drops and not line.strip() else line
    return "\n".join(line for line in changed if line is not None)


def _collide(one: LineEdit, other: LineEdit) -> bool:
    if one.line != other.line:
        return False
    touching = one.start == other.start and one.end == other.end
    return touching or (one.start < other.end and other.start < one.end)
