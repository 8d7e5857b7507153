"""Which lines may have to follow a person's edits, and what they may become.

Text is only compared here: whether and how a line changes is for the model to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fim_server.documents.documents import Snapshot
from fim_server.edits.history import Hunk
from fim_server.edits.rules.clues import NAME, Clue, clues_of, similarity, tokens
from fim_server.edits.rules.drafts import Draft, Suggestion, drafts
from fim_server.edits.rules.missing_imports import missing_imports, needless_imports
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.replay import replayed
from fim_server.edits.rules.typos import misspelt
from fim_server.syntax.languages import Language

MOST_REGION_LINES = 4

MOST_CLUES = 8

_ALIKE = 0.6
_VAGUE = 0.4
"""What a line is worth for which there is a reason and no draft."""

_WORD = re.compile(r"\w+")
_IMPORT = re.compile(r"\s*(?:from\s+\S+\s+)?(?:import|use|using|require)\b|#\s*include\b")


@dataclass(frozen=True, slots=True)
class Problem:
    """A diagnostic of the client: lines `[first, end)`, counted from 0."""

    first: int
    end: int
    message: str


@dataclass(frozen=True, slots=True)
class Region:
    """Whole lines `[first, end)` of a document that are worth revising, why, and what they may
    become."""

    uri: str
    first: int
    end: int
    score: float
    reason: str
    drafts: tuple[Draft, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hit:
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
    """The regions of a document that may follow from the hunks (of any document, oldest first).

    The best first; none without hunks. What was just edited is left out, unless a name in it looks
    misspelt. `neighbours` are import lines of other documents.
    """
    if not hunks:
        return []
    hunks = hunks[-MOST_CLUES:]
    own = [hunk for hunk in hunks if hunk.uri == snapshot.uri]
    edited = {line for hunk in own for line in range(hunk.first, max(hunk.end, hunk.first + 1))}
    page = Page(snapshot, cursor_line, language)
    clues = clues_of(hunks)
    suggestions = [
        *replayed(page, hunks, edited),
        *missing_imports(page, clues, neighbours),
        *needless_imports(page, clues, edited),
    ]
    hits = [*_vague(page, clues, problems, edited, own, hunks)]
    hits += _hits(suggestions)
    scope = page.scope_around(own[-1].first) if own else None
    found = [
        _Hit(hit.line, hit.score + _nearness(page, hit.line, scope), hit.reason)
        for hit in hits
        if hit.line not in edited
    ]
    if own:
        repairs = list(misspelt(page, own[-1]))
        suggestions += repairs
        found += _hits(repairs)
    return _joined(page, found, suggestions)


def _hits(suggestions: Iterable[Suggestion]) -> Iterator[_Hit]:
    for one in suggestions:
        for edit in one.edits:
            yield _Hit(edit.line, one.weight, one.reason)


def _vague(
    page: Page,
    clues: Sequence[Clue],
    problems: Sequence[Problem],
    edited: Collection[int],
    own: Sequence[Hunk],
    hunks: Sequence[Hunk],
) -> Iterator[_Hit]:
    """Lines for which there is a reason and no draft: what they become is for the model to find."""
    hits = [*_following(page, clues), *_import_place(page, clues, edited)]
    if own and own[-1] is hunks[-1]:
        hits += _users_of_signature(page, own[-1])
    for hit in hits:
        yield _Hit(hit.line, _VAGUE * hit.score, hit.reason)
    for problem in problems:
        if problem.first in page.lines:
            yield _Hit(problem.first, 2.5, "has a diagnostic")


def _following(page: Page, clues: Sequence[Clue]) -> Iterator[_Hit]:
    """Lines with what went, with calls of what changed, and lines like those that changed."""
    for number, line in page.lines.items():
        here = tokens([line])
        words = here | frozenset(_WORD.findall(line))  # those in strings and comments as well
        score, reason = max(_judge(here, words, clue) for clue in clues)
        if score:
            yield _Hit(number, score, reason)


def _users_of_signature(page: Page, hunk: Hunk) -> Iterator[_Hit]:
    """Lines with the name of a definition in whose signature a line was edited."""
    line_of_hunk = hunk.first - page.first
    edited = [one for one in page.definitions() if one.line <= line_of_hunk < one.end]
    names = {one.name for one in edited}
    own = {line + page.first for one in edited for line in range(one.line, one.end)}
    for number, line in page.lines.items():
        if number in own:
            continue
        if found := sorted(names & set(NAME.findall(line))):
            yield _Hit(number, 1.8, f"uses {found[0]}")


def _import_place(page: Page, clues: Sequence[Clue], edited: Collection[int]) -> Iterator[_Hit]:
    """The last import, where a name was used that stands nowhere else."""
    come = clues[0].come
    imports = [number for number, line in page.lines.items() if _IMPORT.match(line)]
    if not come or not imports or clues[0].hunk.uri != page.snapshot.uri:
        return
    others = set(page.lines) - set(edited)
    known = frozenset(name for n in others for name in NAME.findall(page.lines[n]))
    if any(NAME.fullmatch(name) and name not in known for name in come):
        yield _Hit(imports[-1], 1.2, "may lack an import")


def _nearness(page: Page, line: int, scope: tuple[int, int] | None) -> float:
    """What the same definition and the distance to the cursor add to a score, at most 1."""
    inside = scope is not None and scope[0] <= line < scope[1]
    return 0.5 * inside + 0.5 / (1 + abs(line - page.cursor) / 20)


def _judge(here: frozenset[str], words: frozenset[str], clue: Clue) -> tuple[float, str]:
    """How much a line has to do with a hunk, and in which way."""
    if gone := sorted(clue.gone & words):
        return 3.0 * clue.weight, f"still has {gone[0]}"
    if called := sorted(clue.called & words):
        return 2.0 * clue.weight, f"uses {called[0]}"
    alike = max((similarity(here, shape) for shape in clue.shapes), default=0.0)
    if alike >= _ALIKE:
        return 1.5 * alike * clue.weight, "looks like a line that changed"
    return 0.0, ""


def _joined(page: Page, hits: Iterable[_Hit], suggestions: Sequence[Suggestion]) -> list[Region]:
    """Neighbouring hits as regions of a few lines, the best first.

    Lines of which something is expected are not mixed with others.
    """
    best: dict[int, _Hit] = {}
    for hit in hits:
        if hit.line not in best or hit.score > best[hit.line].score:
            best[hit.line] = hit
    found: list[Region] = []
    run: list[_Hit] = []
    expected = {edit.line for one in suggestions for edit in one.edits}
    for line in [*sorted(best), -1]:
        next_to = bool(run) and line == run[-1].line + 1
        alike = bool(run) and (line in expected) is (run[-1].line in expected)
        if run and (not (next_to and alike) or len(run) == MOST_REGION_LINES):
            found.append(_region(page, run, suggestions))
            run = []
        if line >= 0:
            run.append(best[line])
    return sorted(found, key=lambda region: (-region.score, region.first))


def _region(page: Page, run: Sequence[_Hit], suggestions: Sequence[Suggestion]) -> Region:
    top = max(run, key=lambda hit: hit.score)
    first = run[0].line
    texts = drafts([page.lines[hit.line] for hit in run], first, suggestions)
    return Region(page.snapshot.uri, first, run[-1].line + 1, top.score, top.reason, tuple(texts))
