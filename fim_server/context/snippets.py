"""Pieces of other files that may help at the cursor, each with a score and its reason.

Three kinds: definitions of names used near the cursor, what was edited last, and windows that share
many names with the text at the cursor (Jaccard similarity, as in arXiv 2303.12570).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from fim_server.syntax.definitions import Definition, definitions
from fim_server.syntax.languages import Language

WINDOW_LINES = 12
WINDOW_STRIDE = 6
LEAST_SIMILARITY = 0.15
EDIT_LINES = 4
"""Lines shown on each side of the last edit of another file."""

_NAMES = re.compile(r"[^\W\d]\w{2,}")


@dataclass(frozen=True, slots=True)
class Source:
    """Another file as text with `\\n` line ends. `stamp` changes with the text."""

    path: str
    text: str
    language: Language | None
    stamp: Hashable
    edited_line: int | None = None
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """Lines `first` to `end` (exclusive, from 0) of a source, and why they are worth showing."""

    path: str
    first: int
    end: int
    text: str
    score: float
    reason: str

    def overlaps(self, other: Candidate) -> bool:
        same = self.path == other.path
        return same and self.first < other.end and other.first < self.end


@dataclass(frozen=True, slots=True)
class Focus:
    """What is at the cursor: the names around it, and those closest to it."""

    around: frozenset[str]
    closest: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What does not change with the cursor."""

    stamp: Hashable
    lines: list[str]
    windows: list[tuple[int, frozenset[str]]]
    definitions: list[Definition]


def names_in(text: str) -> frozenset[str]:
    """The names in a text, those of one or two letters left out."""
    return frozenset(_NAMES.findall(text))


def focus_at(before: str, after: str) -> Focus:
    """The focus between two texts: 20 lines before and 5 after, and the last 3."""
    lines = before.split("\n")
    around = "\n".join(lines[-20:]) + "\n".join(after.split("\n")[:5])
    return Focus(names_in(around), names_in("\n".join(lines[-3:])))


class CandidateFinder:
    """Finds candidates, and reads each source once. Belongs to one thread."""

    def __init__(self) -> None:
        self._facts: dict[str, _Facts] = {}

    def find(self, sources: Sequence[Source], focus: Focus) -> list[Candidate]:
        """All candidates, the best first; equal ones in the order of their places."""
        self._facts = {one.path: self._facts_of(one) for one in sources}
        edited = [one.path for one in sources if one.edited_line is not None]
        found = [candidate for source in sources for candidate in self._of(source, focus, edited)]
        return sorted(found, key=lambda one: (-one.score, one.path, one.first))

    def _of(self, source: Source, focus: Focus, edited: Sequence[str]) -> Iterator[Candidate]:
        facts = self._facts[source.path]
        yield from _definitions(source, facts, focus)
        if source.edited_line is not None:
            yield from _edit(source, facts, edited.index(source.path))
        yield from _similar(source, facts, focus)

    def _facts_of(self, source: Source) -> _Facts:
        known = self._facts.get(source.path)
        if known is not None and known.stamp == source.stamp:
            return known
        lines = source.text.split("\n")
        starts = range(0, max(len(lines) - WINDOW_STRIDE, 1), WINDOW_STRIDE)
        windows = [
            (start, names_in("\n".join(lines[start : start + WINDOW_LINES]))) for start in starts
        ]
        known_definitions = definitions(source.text, source.language) if source.language else []
        return _Facts(source.stamp, lines, windows, known_definitions)


def _definitions(source: Source, facts: _Facts, focus: Focus) -> Iterator[Candidate]:
    for one in facts.definitions:
        if one.name not in focus.around:
            continue
        score = 1.0 + 0.5 * (one.name in focus.closest) + 0.25 * source.imported
        reason = f"defines {one.name}, used near the cursor"
        yield Candidate(source.path, one.line, one.end, one.text, score, reason)


def _edit(source: Source, facts: _Facts, rank: int) -> Iterator[Candidate]:
    assert source.edited_line is not None
    first = max(source.edited_line - EDIT_LINES, 0)
    end = min(source.edited_line + EDIT_LINES + 1, len(facts.lines))
    text = "\n".join(facts.lines[first:end])
    if text.strip():
        reason = f"edited at line {source.edited_line + 1}, {rank} files ago"
        yield Candidate(source.path, first, end, text, 0.9 / (1 + rank), reason)


def _similar(source: Source, facts: _Facts, focus: Focus) -> Iterator[Candidate]:
    for first, names in facts.windows:
        union = len(names | focus.around)
        score = len(names & focus.around) / union if union else 0.0
        if score >= LEAST_SIMILARITY:
            end = min(first + WINDOW_LINES, len(facts.lines))
            text = "\n".join(facts.lines[first:end]).strip("\n")
            yield Candidate(
                source.path, first, end, text, score, f"shares {score:.0%} of the names here"
            )
