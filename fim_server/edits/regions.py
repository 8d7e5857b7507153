"""The regions of a document that may follow from recent edits, with what the rules draft for them.

Only text and syntax are compared here; the model may judge the drafts as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fim_server.edits.rules.drafts import Candidate, LineEdit, RegionDraft, region_drafts
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.table import candidates

MAX_REGION_LINES = 4
"""Lines of a region that joins adjacent drafts; a single draft may take more."""

RECENT_HUNKS = 8
"""Recent hunks that rules are applied to."""

_DIAGNOSTIC_ODDS = 1.0
"""Nats added to the odds of what changes a line with a diagnostic. Not measured: histories have no
diagnostics."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A diagnostic of the client: lines `[first, end)`, counted from 0."""

    first: int
    end: int
    message: str


@dataclass(frozen=True, slots=True)
class Region:
    """Whole lines `[first, end)` of a document that may be rewritten, why, and their drafts, the
    likeliest first. score: the log-odds of that one, in nats."""

    uri: str
    first: int
    end: int
    score: float
    reason: str
    drafts: tuple[RegionDraft, ...] = ()


def regions(page: Page, problems: Sequence[Problem] = ()) -> list[Region]:
    """The regions of a page that may follow from its hunks, the likeliest first.

    Lines that were just edited are left out, unless a rule repairs them. `problems` raise the odds
    of what changes their lines.
    """
    return regions_of(page, candidates(page), problems)


def regions_of(
    page: Page, drafted: Iterable[Candidate], problems: Sequence[Problem] = ()
) -> list[Region]:
    """The regions of some candidates, the likeliest first."""
    starts = {problem.first for problem in problems}
    found = [
        replace(candidate, odds=candidate.odds + _DIAGNOSTIC_ODDS)
        if not starts.isdisjoint(range(candidate.first, candidate.end))
        else candidate
        for candidate in drafted
    ]
    made = (_region(page, group) for group in _groups(_merged(found)))
    useful = [region for region in made if region.drafts]
    return sorted(useful, key=lambda region: (-region.score, region.first))


def _merged(found: Iterable[Candidate]) -> list[Candidate]:
    """The candidates, of those with the same edits the first, with the odds of the likeliest."""
    kept: dict[tuple[LineEdit, ...], Candidate] = {}
    for candidate in found:
        known = kept.setdefault(candidate.edits, candidate)
        if candidate.odds > known.odds:
            kept[candidate.edits] = replace(known, odds=candidate.odds)
    return list(kept.values())


def _groups(found: Iterable[Candidate]) -> list[list[Candidate]]:
    """Candidates that change the same lines, or adjacent lines for the same reason."""
    groups: list[list[Candidate]] = []
    end = 0
    for candidate in sorted(found, key=lambda each: (each.first, each.end)):
        last = groups[-1] if groups else []
        if last and (candidate.first < end or _continues(last, end, candidate)):
            last.append(candidate)
            end = max(end, candidate.end)
        else:
            groups.append([candidate])
            end = candidate.end
    return groups


def _continues(group: Sequence[Candidate], end: int, candidate: Candidate) -> bool:
    small = candidate.end - group[0].first <= MAX_REGION_LINES
    same = any(each.is_like(candidate) and each.end == end for each in group)
    return candidate.first == end and small and same


def _region(page: Page, group: Sequence[Candidate]) -> Region:
    first, end = group[0].first, max(candidate.end for candidate in group)
    lines = [page.line(number) for number in range(first, end)]
    drafts = region_drafts(lines, first, group)
    score = drafts[0].odds if drafts else 0.0
    reason = drafts[0].reason if drafts else ""
    return Region(page.snapshot.uri, first, end, score, reason, tuple(drafts))
