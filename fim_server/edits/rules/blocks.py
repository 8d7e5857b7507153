"""Blocks of whole lines: where the same lines stand again, at any indentation, and their edits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import TOKEN
from fim_server.edits.rules.drafts import LineEdit
from fim_server.edits.rules.page import Page

MAX_CONTEXT_LINES = 3
"""Lines on each side of a place that are compared."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines without the indentation that they share; `anchor` is the first that is not blank."""

    lines: tuple[str, ...]
    indent: str
    anchor: int

    @classmethod
    def of(cls, lines: Sequence[str]) -> Block:
        """The block of some lines, not all of which are blank."""
        indents = [indentation(line) for line in lines if line.strip()]
        shared = min(indents, key=len, default="")
        anchor = next((at for at, line in enumerate(lines) if line.strip()), 0)
        return cls(tuple(_without(line, shared) for line in lines), shared, anchor)

    def places(self, page: Page) -> Iterator[int]:
        """The lines of a page at which the same lines begin, each with the same indentation
        relative to the others."""
        text = self.lines[self.anchor].strip()
        for number in page.by_text.get(text, ()):
            first = number - self.anchor
            if first < page.first or first + len(self.lines) > page.last:
                continue
            found = [page.line(at) for at in range(first, first + len(self.lines))]
            if Block.of(found).lines == self.lines:
                yield first

    def indent_at(self, page: Page, first: int) -> str:
        """The indentation shared by the block's lines where they stand from `first` on."""
        return Block.of([page.line(at) for at in range(first, first + len(self.lines))]).indent

    def reindented(self, lines: Sequence[str], indent: str) -> list[str]:
        """Lines that were written beside the block, where it is indented by `indent`."""
        return reindented(lines, self.indent, indent)


def reindented(lines: Sequence[str], before: str, now: str) -> list[str]:
    """Lines written at indentation `before`, moved to `now`; less indented ones move as far as
    they can."""
    found = []
    for line in lines:
        own = indentation(line)
        if not line.strip():
            found.append("")
        elif own.startswith(before):
            found.append(now + line[len(before) :])
        else:
            less = len(before) - len(own)
            found.append(now[: max(len(now) - less, 0)] + line.lstrip())
    return found


def indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def count_tokens(lines: Sequence[str]) -> int:
    """Names, literals and punctuation of some lines."""
    return sum(len(TOKEN.findall(line)) for line in lines)


def whole_lines(page: Page, first: int, end: int, new: Sequence[str]) -> tuple[LineEdit, ...]:
    """The edits that replace lines `[first, end)`, at least one, by others; by none to delete
    them."""
    if not new:
        return tuple(
            LineEdit(at, 0, len(page.line(at)), "", drops=True) for at in range(first, end)
        )
    kept = min(end - first, len(new))
    texts = [*new[: kept - 1], "\n".join(new[kept - 1 :])]
    edits = [
        LineEdit(first + at, 0, len(page.line(first + at)), text) for at, text in enumerate(texts)
    ]
    for at in range(first + kept, end):
        edits.append(LineEdit(at, 0, len(page.line(at)), "", drops=True))
    return tuple(edits)


def context_lines(page: Page, hunk: Hunk, first: int, count: int) -> int:
    """How many lines right above and right below a place of `count` lines are those around the
    hunk."""
    above = equal_lines(page, hunk.first - 1, first - 1, -1, MAX_CONTEXT_LINES)
    return above + equal_lines(page, hunk.end, first + count, 1, MAX_CONTEXT_LINES)


def equal_lines(page: Page, here: int, there: int, step: int, most: int) -> int:
    """How many lines from two places on, downwards (step 1) or upwards (-1), are equal but for
    their indentation: up to the first blank one, and `most` at most."""
    count = 0
    for at in range(0, most * step, step):
        line = page.line(here + at).strip()
        if not line or line != page.line(there + at).strip():
            break
        count += 1
    return count


def _without(line: str, indent: str) -> str:
    return line[len(indent) :] if line.startswith(indent) else line.lstrip()
