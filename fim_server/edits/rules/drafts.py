"""Drafts: what rules propose, and how the drafts of neighbouring lines become texts of a region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MAX_REGION_DRAFTS = 6
"""Drafts of one region."""

SURE = 8.0
"""Log-odds, in nats, added to a draft that the syntax asks for: another use of the same local name,
a call that gives too few arguments or too many."""

DOUBT = 3.0
"""Nats taken from a draft that only looks right; of several ways to make the same edit, each has
this much less than the one before."""


@dataclass(frozen=True, slots=True, order=True)
class LineEdit:
    """Characters `[start, end)` of a line become `text`, which may contain line ends (`\\n`).

    drops: the line itself is deleted if nothing but white space is left of it.
    """

    line: int
    start: int
    end: int
    text: str
    drops: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """Edits that belong together, on any lines of a page, with the features that rank them.

    reason: shown to the user. weight: how promising the lines are, for ranking regions. about: of
    drafts with the same non-empty value only one is applied. doubt: nats by which the draft is less
    expected than others (`fim_model/calibration/edit_priors.py`); negative is more expected.
    """

    edits: tuple[LineEdit, ...]
    reason: str
    weight: float
    about: str = ""
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class RegionDraft:
    """A proposed text of a region (lines joined by `\\n`), with the reason and doubt of the drafts
    that it applies."""

    text: str
    reason: str
    doubt: float = 0.0


def region_drafts(lines: Sequence[str], first: int, drafts: Iterable[Draft]) -> list[RegionDraft]:
    """Texts of the lines from number `first` on: all drafts that agree applied together, then each
    draft alone by decreasing weight; at most MAX_REGION_DRAFTS."""
    end = first + len(lines)
    near: list[tuple[list[LineEdit], Draft]] = []
    for draft in sorted(drafts, key=lambda draft: -draft.weight):
        inside = [edit for edit in draft.edits if first <= edit.line < end]
        if inside:
            near.append((inside, draft))
    together: list[LineEdit] = []
    settled: set[str] = set()
    for inside, draft in near:
        if draft.about in settled or any(_collide(a, b) for a in inside for b in together):
            continue
        together += inside
        settled |= {draft.about} - {""}
    old = "\n".join(lines)
    found: dict[str, RegionDraft] = {}
    if near:
        joint = max(draft.doubt for inside, draft in near if inside[0] in together)
        near.insert(0, (together, replace(near[0][1], doubt=joint)))
    for edits, draft in near:
        text = applied(lines, first, edits)
        if text != old:
            found.setdefault(text, RegionDraft(text, draft.reason, draft.doubt))
    return list(found.values())[:MAX_REGION_DRAFTS]


def applied(lines: Sequence[str], first: int, edits: Iterable[LineEdit]) -> str:
    """The lines from number `first` on after edits that do not collide."""
    changed: list[str | None] = list(lines)
    for edit in sorted(edits, reverse=True):
        line = changed[edit.line - first] or ""
        line = line[: edit.start] + edit.text + line[edit.end :]
        changed[edit.line - first] = None if edit.drops and not line.strip() else line
    return "\n".join(line for line in changed if line is not None)


def _collide(edit: LineEdit, other: LineEdit) -> bool:
    if edit.line != other.line:
        return False
    same_span = edit.start == other.start and edit.end == other.end
    return same_span or (edit.start < other.end and other.start < edit.end)
