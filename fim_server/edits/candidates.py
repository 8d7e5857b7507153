"""Which lines may have to follow a person's edits. Text is only compared here: whether and how a
line changes is for the model to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from fim_server.context.languages import Language
from fim_server.context.syntax import definitions, scope_around
from fim_server.documents import Snapshot, without_end
from fim_server.edits.clues import NAME, Clue, clues_of, similarity, tokens
from fim_server.edits.history import Hunk

MOST_REGION_LINES = 4
MOST_LINE_CHARS = 300
"""A longer line is generated or data, and more than the model rewrites at once."""

MOST_CLUES = 8

REACH = 1500
"""Lines on each side of the cursor that are looked at."""

_ALIKE = 0.6
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
    """Whole lines `[first, end)` of a document that are worth revising, and why."""

    uri: str
    first: int
    end: int
    score: float
    reason: str


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
) -> list[Region]:
    """The regions of a document that may follow from the hunks (of any document, oldest first).

    The best first; none without hunks. What was just edited is left out, unless a name in it looks
    misspelt.
    """
    if not hunks:
        return []
    own = [hunk for hunk in hunks if hunk.uri == snapshot.uri]
    edited = {line for hunk in own for line in range(hunk.first, max(hunk.end, hunk.first + 1))}
    page = _Page(snapshot, cursor_line, language)
    clues = clues_of(hunks[-MOST_CLUES:])
    hits = [*page.following(clues), *page.reported(problems), *page.import_place(clues, edited)]
    if own and own[-1] is hunks[-1]:
        hits += page.users_of_signature(own[-1])
    scope = page.scope_of(own[-1]) if own else None
    found = [
        _Hit(hit.line, hit.score + page.nearness(hit.line, scope), hit.reason)
        for hit in hits
        if hit.line not in edited
    ]
    return _joined(snapshot, [*found, *page.misspelt(own)])


class _Page:
    """The part of a document that is looked at."""

    def __init__(self, snapshot: Snapshot, cursor_line: int, language: Language | None) -> None:
        self._snapshot, self._cursor, self._language = snapshot, cursor_line, language
        self._first = max(cursor_line - REACH, 0)
        lines = snapshot.lines[self._first : cursor_line + REACH]
        self._lines = {
            number: content
            for number, line in enumerate(lines, self._first)
            if (content := without_end(line)).strip() and len(content) <= MOST_LINE_CHARS
        }

    def following(self, clues: Sequence[Clue]) -> Iterator[_Hit]:
        """Lines with what went, with calls of what changed, and lines like those that changed."""
        for number, line in self._lines.items():
            here = tokens([line])
            words = here | frozenset(_WORD.findall(line))  # those in strings and comments as well
            score, reason = max(_judge(here, words, clue) for clue in clues)
            if score:
                yield _Hit(number, score, reason)

    def users_of_signature(self, hunk: Hunk) -> Iterator[_Hit]:
        """Lines with the name of a definition in whose signature a line was edited."""
        if self._language is None:
            return
        line_of_hunk = hunk.first - self._first
        edited = [
            one
            for one in definitions(self._text(), self._language)
            if one.line <= line_of_hunk < one.end
        ]
        names = {one.name for one in edited}
        own = {line + self._first for one in edited for line in range(one.line, one.end)}
        for number, line in self._lines.items():
            if number in own:
                continue
            if found := sorted(names & set(NAME.findall(line))):
                yield _Hit(number, 1.8, f"uses {found[0]}")

    def reported(self, problems: Sequence[Problem]) -> Iterator[_Hit]:
        """Lines about which the client has a diagnostic."""
        for problem in problems:
            if problem.first in self._lines:
                yield _Hit(problem.first, 2.5, "has a diagnostic")

    def import_place(self, clues: Sequence[Clue], edited: Iterable[int]) -> Iterator[_Hit]:
        """The last import, where a name was used that stands nowhere else."""
        come = clues[0].come
        imports = [number for number, line in self._lines.items() if _IMPORT.match(line)]
        if not come or not imports or clues[0].hunk.uri != self._snapshot.uri:
            return
        others = set(self._lines) - set(edited)
        known = frozenset(name for n in others for name in NAME.findall(self._lines[n]))
        if any(NAME.fullmatch(name) and name not in known for name in come):
            yield _Hit(imports[-1], 1.2, "may lack an import")

    def misspelt(self, own: Sequence[Hunk]) -> Iterator[_Hit]:
        """Edited lines with a new name that is nearly one which stands elsewhere."""
        if not own:
            return
        hunk = own[-1]
        lines = range(hunk.first, hunk.end)
        if self._cursor in lines:
            return
        elsewhere = {
            name for n, line in self._lines.items() if n not in lines for name in NAME.findall(line)
        }
        before = tokens(hunk.old)
        for number in lines:
            for name in NAME.findall(self._lines.get(number, "")):
                if len(name) < 4 or name in before or name in elsewhere:
                    continue
                if get_close_matches(name, elsewhere, 1, 0.8):
                    yield _Hit(number, 2.0, f"{name} looks misspelt")

    def scope_of(self, hunk: Hunk) -> tuple[int, int] | None:
        """The definition that was edited in."""
        if self._language is None:
            return None
        scope = scope_around(self._text(), self._language, hunk.first - self._first)
        return None if scope is None else (scope[0] + self._first, scope[1] + self._first)

    def nearness(self, line: int, scope: tuple[int, int] | None) -> float:
        """What the same definition and the distance to the cursor add to a score, at most 1."""
        inside = scope is not None and scope[0] <= line < scope[1]
        return 0.5 * inside + 0.5 / (1 + abs(line - self._cursor) / 20)

    def _text(self) -> str:
        lines = self._snapshot.lines[self._first : self._cursor + REACH]
        return "\n".join(map(without_end, lines))


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


def _joined(snapshot: Snapshot, hits: Iterable[_Hit]) -> list[Region]:
    """Neighbouring hits as regions of a few lines, the best first."""
    best: dict[int, _Hit] = {}
    for hit in hits:
        if hit.line not in best or hit.score > best[hit.line].score:
            best[hit.line] = hit
    found: list[Region] = []
    run: list[_Hit] = []
    for line in [*sorted(best), -1]:
        ends = bool(run) and (line != run[-1].line + 1 or len(run) == MOST_REGION_LINES)
        if ends:
            top = max(run, key=lambda hit: hit.score)
            found.append(Region(snapshot.uri, run[0].line, run[-1].line + 1, top.score, top.reason))
            run = []
        if line >= 0:
            run.append(best[line])
    return sorted(found, key=lambda region: (-region.score, region.first))
