"""Snippets of other files that may help at the cursor, each with a score and a reason.

Three kinds: definitions of names used near the cursor, the surroundings of the latest edits, and
windows that share many names with the text at the cursor (Jaccard similarity, arXiv 2303.12570).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from fim_server.syntax.definitions import Definition, definitions
from fim_server.syntax.languages import Language

WINDOW_LINES = 12
WINDOW_STRIDE = 6
MIN_SIMILARITY = 0.15
EDIT_LINES = 4
"""Lines shown on each side of the last edit of another file."""

_NAMES = re.compile(r"[^\W\d]\w{2,}")


@dataclass(frozen=True, slots=True)
class OtherFile:
    """The text of another file, with `\\n` line ends. `stamp` changes whenever the text does."""

    path: str
    text: str
    language: Language | None
    stamp: Hashable
    edited_line: int | None = None
    imported: bool = False


@dataclass(frozen=True, slots=True)
class ScoredSnippet:
    """Lines `first` to `end` (0-based, exclusive) of another file, and the reason to show them."""

    path: str
    first: int
    end: int
    text: str
    score: float
    reason: str

    def overlaps(self, other: ScoredSnippet) -> bool:
        same = self.path == other.path
        return same and self.first < other.end and other.first < self.end


@dataclass(frozen=True, slots=True)
class Focus:
    """The names in the lines around the cursor, and those in the lines closest to it."""

    around: frozenset[str]
    closest: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Index:
    """What is computed once per version of a file, independent of the cursor."""

    stamp: Hashable
    lines: list[str]
    windows: list[tuple[int, frozenset[str]]]
    definitions: list[Definition]


def names_in(text: str) -> frozenset[str]:
    """The names in a text that have three or more letters."""
    return frozenset(_NAMES.findall(text))


def focus_at(before: str, after: str) -> Focus:
    """The names in the 20 lines before and the 5 after the cursor, and in the last 3 before it."""
    lines = before.split("\n")
    around = "\n".join(lines[-20:]) + "\n".join(after.split("\n")[:5])
    return Focus(names_in(around), names_in("\n".join(lines[-3:])))


class SnippetFinder:
    """Finds snippets, and indexes each version of a file once. Belongs to one thread."""

    def __init__(self) -> None:
        self._indexes: dict[str, _Index] = {}

    def find(self, files: Sequence[OtherFile], focus: Focus) -> list[ScoredSnippet]:
        """All snippets, best first; equally good ones by path and line."""
        self._indexes = {file.path: self._index_of(file) for file in files}
        edited = [file.path for file in files if file.edited_line is not None]
        found = [snippet for file in files for snippet in self._in_file(file, focus, edited)]
        return sorted(found, key=lambda snippet: (-snippet.score, snippet.path, snippet.first))

    def _in_file(
        self, file: OtherFile, focus: Focus, edited: Sequence[str]
    ) -> Iterator[ScoredSnippet]:
        index = self._indexes[file.path]
        yield from _definitions(file, index, focus)
        if file.edited_line is not None:
            yield from _around_edit(file, index, edited.index(file.path))
        yield from _similar_windows(file, index, focus)

    def _index_of(self, file: OtherFile) -> _Index:
        known = self._indexes.get(file.path)
        if known is not None and known.stamp == file.stamp:
            return known
        lines = file.text.split("\n")
        starts = range(0, max(len(lines) - WINDOW_STRIDE, 1), WINDOW_STRIDE)
        windows = [
            (start, names_in("\n".join(lines[start : start + WINDOW_LINES]))) for start in starts
        ]
        defined = definitions(file.text, file.language) if file.language else []
        return _Index(file.stamp, lines, windows, defined)


def _definitions(file: OtherFile, index: _Index, focus: Focus) -> Iterator[ScoredSnippet]:
    for definition in index.definitions:
        name = definition.name
        if name not in focus.around:
            continue
        score = 1.0 + 0.5 * (name in focus.closest) + 0.25 * file.imported
        reason = f"defines {name}, used near the cursor"
        yield ScoredSnippet(
            file.path, definition.line, definition.end, definition.text, score, reason
        )


def _around_edit(file: OtherFile, index: _Index, rank: int) -> Iterator[ScoredSnippet]:
    """The lines around the file's last edit; `rank` counts the files edited since."""
    assert file.edited_line is not None
    first = max(file.edited_line - EDIT_LINES, 0)
    end = min(file.edited_line + EDIT_LINES + 1, len(index.lines))
    text = "\n".join(index.lines[first:end])
    if text.strip():
        reason = f"edited at line {file.edited_line + 1}, {rank} files ago"
        yield ScoredSnippet(file.path, first, end, text, 0.9 / (1 + rank), reason)


def _similar_windows(file: OtherFile, index: _Index, focus: Focus) -> Iterator[ScoredSnippet]:
    for first, names in index.windows:
        union = len(names | focus.around)
        score = len(names & focus.around) / union if union else 0.0
        if score >= MIN_SIMILARITY:
            end = min(first + WINDOW_LINES, len(index.lines))
            text = "\n".join(index.lines[first:end]).strip("\n")
            reason = f"shares {score:.0%} of the names here"
            yield ScoredSnippet(file.path, first, end, text, score, reason)
