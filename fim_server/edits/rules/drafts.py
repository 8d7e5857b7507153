"""Drafts: what rules propose, and how the drafts of neighbouring lines become texts of a region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_REGION_DRAFTS = 6
"""Drafts of one region."""


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
class Signs:
    """What a rule knows about how likely its draft is right; `score.py` weighs it.

    kind: which of the rule's ways led to the draft. likeness: of the place to the edited one, 0 to
    1. tokens: names, literals and punctuation that must be equal for the rule to apply. context:
    tokens or lines around them that are equal as well. rank: better drafts of the same thing.
    changes: of the edited line, of which the draft repeats one. text: whether words of a string or
    comment change.
    """

    kind: str = ""
    likeness: float = 1.0
    tokens: int = 0
    context: int = 0
    rank: int = 0
    changes: int = 1
    text: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """Edits of a page for the same reason.

    reason: shown to the user. about: of drafts with the same non-empty value only one is applied.
    whole: the edits are one change, made completely or not at all; others are made line by line.
    """

    edits: tuple[LineEdit, ...]
    reason: str
    signs: Signs = Signs()
    about: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """Edits of adjacent lines `[first, end)`, with the log-odds (nats) that they are right.

    features: what `score.py` computed the log-odds from.
    """

    first: int
    end: int
    edits: tuple[LineEdit, ...]
    reason: str
    rule: str
    odds: float
    about: str = ""
    features: tuple[float, ...] = ()

    def is_like(self, other: Candidate) -> bool:
        """Whether the same rule drafted both for the same reason, so that they belong together."""
        return (self.rule, self.reason) == (other.rule, other.reason)


@dataclass(frozen=True, slots=True)
class RegionDraft:
    """A proposed text of a region (lines joined by `\\n`), with the reason, the rule and the
    log-odds (nats) of the least likely candidate that it applies."""

    text: str
    reason: str
    rule: str
    odds: float


def region_drafts(
    lines: Sequence[str], first: int, candidates: Iterable[Candidate]
) -> list[RegionDraft]:
    """Texts of the lines from number `first` on, the likeliest first, at most MAX_REGION_DRAFTS.

    The likeliest candidate is applied together with all that agree with it and are likelier right
    than wrong, or like it; each other one alone.
    """
    likely = sorted(candidates, key=lambda candidate: -candidate.odds)
    together: list[LineEdit] = []
    joined: list[Candidate] = []
    settled: set[str] = set()
    for candidate in likely:
        agrees = not any(_collide(a, b) for a in candidate.edits for b in together)
        belongs = not joined or candidate.odds > 0 or candidate.is_like(joined[0])
        if candidate.about not in settled and agrees and belongs:
            together += candidate.edits
            joined.append(candidate)
            settled |= {candidate.about} - {""}
    alone = [(candidate.edits, [candidate]) for candidate in likely if candidate not in joined]
    old = "\n".join(lines)
    found: dict[str, RegionDraft] = {}
    for edits, made in [(tuple(together), joined), *alone]:
        if not made:
            continue
        text = applied(lines, first, edits)
        if text != old:
            best = made[0]
            odds = min(candidate.odds for candidate in made)
            found.setdefault(text, RegionDraft(text, best.reason, best.rule, odds))
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
