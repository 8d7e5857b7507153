"""Draw holes from real source files, of the kinds that occur while typing.

A hole picks a project, then one of its files, then a character of it, each uniformly and from a
seeded generator of its own kind: a huge project counts no more than a small one, and asking for
other kinds does not change the holes of this one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from fim_model.copies import Copied, copies, nearest_names, within_reach

from fim_training.evaluation.filler import Hole
from fim_training.evaluation.jsonl import read_text_fields

HoleKind = Literal["line", "rest_of_line", "mid_word", "span", "multi_line"]
ONE_LINE_KINDS: tuple[HoleKind, ...] = ("line", "rest_of_line", "mid_word")

_TRIES_PER_HOLE = 2000
_LETTERS = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file of a project that the model was not trained on."""

    project: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Window:
    """Limits on the characters of each side; cuts fall between lines where possible.

    The defaults are what the language server shows its model.
    """

    prefix_chars: int = 1200
    suffix_chars: int = 500

    def __post_init__(self) -> None:
        if self.prefix_chars < 1 or self.suffix_chars < 1:
            raise ValueError("a window needs at least one character on each side")

    def before(self, text: str) -> str:
        """The end of `text`, from a line start."""
        if len(text) <= self.prefix_chars:
            return text
        start = len(text) - self.prefix_chars
        return text[text.find("\n", start - 1) + 1 or start :]

    def after(self, text: str) -> str:
        """The beginning of `text`, to the end of a line."""
        if len(text) <= self.suffix_chars:
            return text
        return text[: text.rfind("\n", 0, self.suffix_chars) + 1 or self.suffix_chars]


@dataclass(frozen=True, slots=True)
class HeldoutHole:
    """Characters `[start, end)` of a document, taken out. others: the texts of files beside it."""

    kind: HoleKind
    document: Document
    start: int
    end: int
    others: tuple[str, ...] = field(default=(), compare=False)

    @property
    def prefix(self) -> str:
        return self.document.text[: self.start]

    @property
    def answer(self) -> str:
        return self.document.text[self.start : self.end]

    @property
    def suffix(self) -> str:
        return self.document.text[self.end :]

    def hole(self, window: Window) -> Hole:
        """The hole as a filler sees it: a window of both sides, and the line limit of its kind."""
        return Hole(
            prefix=window.before(self.prefix),
            suffix=window.after(self.suffix),
            path=self.document.path,
            max_tokens=KINDS[self.kind].max_tokens,
            max_lines=1 if self.kind in ONE_LINE_KINDS else None,
            copies=self._copies() if self.kind in ONE_LINE_KINDS else (),
        )

    def _copies(self) -> tuple[Copied, ...]:
        return tuple(copies(self.prefix, self.suffix, self.others))


def load_documents(path: Path) -> list[Document]:
    """The files of a held-out corpus. Raises EvaluationDataError."""
    return [Document(**fields) for fields in read_text_fields(path, ("project", "path", "text"))]


class Neighbours:
    """The other files of a document's folder that the server would read."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._folders: dict[tuple[str, str], list[Document]] = defaultdict(list)
        for document in documents:
            self._folders[_folder(document)].append(document)

    def of(self, document: Document) -> tuple[str, ...]:
        """Their texts, the most similar file names first."""
        texts = {near.path: near.text for near in self._folders[_folder(document)]}
        texts.pop(document.path)
        return within_reach(texts[path] for path in nearest_names(document.path, texts))


def _folder(document: Document) -> tuple[str, str]:
    return document.project, document.path.rpartition("/")[0]


def draw_holes(
    documents: Sequence[Document], kind: HoleKind, count: int, seed: int
) -> list[HeldoutHole]:
    """`count` different holes of one kind, the same for the same documents and seed.

    Raises ValueError if the documents do not hold that many, and for a count under 1.
    """
    if count < 1:
        raise ValueError(f"{count} {kind} holes: at least one of each kind is needed")
    rng = Random(f"{seed} {kind}")
    projects: dict[str, list[Document]] = {}
    for document in documents:
        if document.text:
            projects.setdefault(document.project, []).append(document)
    names, beside = sorted(projects), Neighbours(documents)
    holes: dict[HeldoutHole, None] = {}
    for _ in range(_TRIES_PER_HOLE * count if names else 0):
        if len(holes) == count:
            break
        document = rng.choice(projects[rng.choice(names)])
        span = KINDS[kind].span_at(document.text, rng.randrange(len(document.text)), rng)
        if span and _is_worth_asking(document.text[slice(*span)], kind):
            holes[HeldoutHole(kind, document, *span, beside.of(document))] = None
    if len(holes) < count:
        raise ValueError(f"only {len(holes)} of {count} {kind} holes found; use more documents")
    return list(holes)


def draw_each(
    documents: Sequence[Document], kinds: Iterable[HoleKind], count: int, seed: int
) -> list[HeldoutHole]:
    """`count` holes of every kind, kind by kind, as `draw_holes` draws them."""
    return [hole for kind in kinds for hole in draw_holes(documents, kind, count, seed)]


def _is_worth_asking(answer: str, kind: HoleKind) -> bool:
    """Whether an answer has ink and is not too long; a whole line needs more than a bracket."""
    if kind in ("line", "multi_line") and not _LETTERS.search(answer):
        return False
    return bool(answer.strip()) and len(answer) <= KINDS[kind].max_characters


Span = tuple[int, int]


def _line(text: str, at: int, rng: Random) -> Span | None:
    """A line's content: the editor has put the cursor after the indentation."""
    start, end = _line_bounds(text, at)
    return _first_ink(text, start, end), end


def _rest_of_line(text: str, at: int, rng: Random) -> Span | None:
    """From a place after at least one character of content to the line's end."""
    start, end = _line_bounds(text, at)
    return (at, end) if at > _first_ink(text, start, end) else None


def _mid_word(text: str, at: int, rng: Random) -> Span | None:
    """From between two characters of a word to the line's end."""
    inside = at > 0 and _is_word(text[at - 1]) and _is_word(text[at])
    return (at, _line_bounds(text, at)[1]) if inside else None


def _span(text: str, at: int, rng: Random) -> Span | None:
    """From any character to any later one on this line or the next two."""
    last = _line_bounds(text, at)
    for _ in range(rng.randrange(3)):
        last = _line_bounds(text, min(last[1] + 1, len(text) - 1))
    first = max(at, last[0]) + 1
    return (at, rng.randint(first, last[1])) if first <= last[1] else None


def _multi_line(text: str, at: int, rng: Random) -> Span | None:
    """A line's content and one to four more lines, the last newline left in place."""
    start, end = _line_bounds(text, at)
    start = _first_ink(text, start, end)
    for _ in range(rng.randint(1, 4)):
        end = _line_bounds(text, min(end + 1, len(text) - 1))[1]
    return (start, end) if "\n" in text[start:end].strip() else None


@dataclass(frozen=True, slots=True)
class _Kind:
    """How to take a hole at a character, the longest answer to ask for, and the room to give."""

    span_at: Callable[[str, int, Random], Span | None]
    max_characters: int = 120
    max_tokens: int = 64


KINDS: dict[HoleKind, _Kind] = {
    "line": _Kind(_line),
    "rest_of_line": _Kind(_rest_of_line),
    "mid_word": _Kind(_mid_word),
    "span": _Kind(_span, max_characters=240, max_tokens=128),
    "multi_line": _Kind(_multi_line, max_characters=320, max_tokens=160),
}


def _line_bounds(text: str, at: int) -> Span:
    """Start and end (before the newline) of the line that character `at` belongs to."""
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


def _first_ink(text: str, start: int, end: int) -> int:
    line = text[start:end]
    return start + len(line) - len(line.lstrip())


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
