"""The regions of a document that may follow from recent edits, with what the rules draft for them.

Only text and syntax are compared here; whether a draft is right is for the model to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fim_server.documents.documents import Snapshot
from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, RegionDraft, region_drafts
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.table import drafts_of
from fim_server.syntax.languages import Language

MAX_REGION_LINES = 4

RECENT_HUNKS = 8
"""Recent hunks that rules are applied to."""

_DIAGNOSTIC_SCORE = 2.5
"""The least score of a line that has both a draft and a diagnostic."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A diagnostic of the client: lines `[first, end)`, counted from 0."""

    first: int
    end: int
    message: str


@dataclass(frozen=True, slots=True)
class Region:
    """Whole lines `[first, end)` of a document that may be rewritten, why, and their drafts."""

    uri: str
    first: int
    end: int
    score: float
    reason: str
    drafts: tuple[RegionDraft, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hit:
    """A line that a draft changes."""

    line: int
    score: float
    reason: str


def regions(
    snapshot: Snapshot,
    hunks: Sequence[Hunk],
    language: Language | None,
    cursor_line: int,
    problems: Sequence[Problem] = (),
    neighbours: Iterable[str] = (),
) -> list[Region]:
    """The regions of a document that may follow from hunks (of any document, oldest first), the
    best first; none without hunks.

    Lines that were just edited are left out, unless a rule repairs them. `problems` raise the score
    of lines that have drafts. `neighbours` are import lines of other documents.
    """
    if not hunks:
        return []
    page = Page(snapshot, cursor_line, language, hunks[-RECENT_HUNKS:], neighbours)
    following = drafts_of(page, repairs=False)
    repairs = drafts_of(page, repairs=True)
    scope = page.scope_around(page.own_hunks[-1].first) if page.own_hunks else None
    hits = [
        _Hit(hit.line, hit.score + _nearness(page, hit.line, scope), hit.reason)
        for hit in _with_diagnostics(list(_hits(following)), problems)
    ]
    return _regions(page, [*hits, *_hits(repairs)], [*following, *repairs])


def _hits(drafts: Iterable[Draft]) -> Iterator[_Hit]:
    for draft in drafts:
        for edit in draft.edits:
            yield _Hit(edit.line, draft.weight, draft.reason)


def _with_diagnostics(hits: Sequence[_Hit], problems: Sequence[Problem]) -> Iterator[_Hit]:
    """The hits, and another one for each of their lines on which a diagnostic begins."""
    yield from hits
    for line in {hit.line for hit in hits} & {problem.first for problem in problems}:
        yield _Hit(line, _DIAGNOSTIC_SCORE, "has a diagnostic")


def _nearness(page: Page, line: int, scope: tuple[int, int] | None) -> float:
    """What the same definition and the distance to the cursor add to a score, 0 to 1."""
    inside = scope is not None and scope[0] <= line < scope[1]
    return 0.5 * inside + 0.5 / (1 + abs(line - page.cursor) / 20)


def _regions(page: Page, hits: Iterable[_Hit], drafts: Sequence[Draft]) -> list[Region]:
    """Runs of adjacent hits as regions of at most MAX_REGION_LINES lines, the best first; those
    that no draft changes are left out."""
    best: dict[int, _Hit] = {}
    for hit in hits:
        if hit.line not in best or hit.score > best[hit.line].score:
            best[hit.line] = hit
    found: list[Region] = []
    run: list[_Hit] = []
    for line in sorted(best):
        if run and (line != run[-1].line + 1 or len(run) == MAX_REGION_LINES):
            found.append(_region(page, run, drafts))
            run = []
        run.append(best[line])
    if run:
        found.append(_region(page, run, drafts))
    drafted = [region for region in found if region.drafts]
    return sorted(drafted, key=lambda region: (-region.score, region.first))


def _region(page: Page, run: Sequence[_Hit], drafts: Sequence[Draft]) -> Region:
    top = max(run, key=lambda hit: hit.score)
    first = run[0].line
    texts = region_drafts([page.lines[hit.line] for hit in run], first, drafts)
    return Region(page.snapshot.uri, first, run[-1].line + 1, top.score, top.reason, tuple(texts))
