"""Minimal edits that turn a document's lines into new ones: aligned by line, then by word.

Lines are compared without their line ends: unchanged lines keep theirs, inserted lines get the
document's. Positions are `documents.Place`; an edit never splits a word, nor a character from its
combining marks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsprotocol import types as lsp

from fim_server.documents.alignment import differences
from fim_server.documents.documents import Place, Snapshot, without_end

MAX_LINES = 60
"""Most lines of a replacement in which old and new lines are paired by likeness."""

MIN_LIKENESS = 0.4
"""Least share of characters in equal words for two lines to be shown word by word; less alike lines
are replaced as a whole."""

_COMBINING = "\u0300-\u036f\u200d\ufe0f"
_WORD = re.compile(rf"(?:\w[\w{_COMBINING}]*|[^\S{_COMBINING}]+|[\W_])[{_COMBINING}]*")


@dataclass(frozen=True, slots=True)
class Change:
    """A replacement of the text between two places."""

    start: Place
    end: Place
    text: str

    def text_edit(self, snapshot: Snapshot) -> lsp.TextEdit:
        """The change as an LSP edit, in the client's position encoding."""
        span = lsp.Range(snapshot.position(self.start), snapshot.position(self.end))
        return lsp.TextEdit(span, self.text)


def minimal_changes(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> list[Change]:
    """The changes that turn a document's lines `[first, end)` into `new`, from top to bottom.

    `new` has no line ends. A change is a run of words within one line, or whole lines.
    """
    old = [without_end(line) for line in snapshot.lines[first:end]]
    changes: list[Change] = []
    for low, high, from_, to in differences(old, new):
        changes += _hunks(snapshot, first + low, old[low:high], new[from_:to])
    return changes


def block_change(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> Change:
    """A single change that covers all of `minimal_changes`, for clients that take only one: itself
    if there is one, else all lines from the first changed one to the last. `new` must differ from
    the lines."""
    changes = minimal_changes(snapshot, first, end, new)
    if len(changes) == 1:
        return changes[0]
    old = [without_end(line) for line in snapshot.lines[first:end]]
    ranges = differences(old, new)
    low, high, from_, to = ranges[0][0], ranges[-1][1], ranges[0][2], ranges[-1][3]
    if low == high or from_ == to:  # what is inserted or deleted stands beside a line
        low, from_ = max(low - 1, 0), max(from_ - 1, 0)
    text = snapshot.line_end(first + low).join(new[from_:to])
    last = first + high - 1
    stop = Place(last, len(without_end(snapshot.lines[last])))
    return Change(Place(first + low, 0), stop, text)


def words(line: str) -> list[str]:
    """A line split into words, runs of white space and single characters, each with the combining
    marks that follow it."""
    return _WORD.findall(line)


def changed_words(old: str, new: str) -> list[tuple[int, int, str]]:
    """What turns one line into another: characters `[start, end)` of the old one and what replaces
    them, from left to right. Changes between which there is only white space are one; in lines that
    have little in common, all are."""
    before, after = words(old), words(new)
    ranges = differences(before, after)
    if not ranges:
        return []
    merged = [ranges[0]]
    for low, high, from_, to in ranges[1:]:
        start, _, new_start, _ = merged[-1]
        between = before[merged[-1][1] : low]
        if not "".join(between).strip():
            merged[-1] = (start, high, new_start, to)
        else:
            merged.append((low, high, from_, to))
    kept = sum(map(len, before)) - sum(len("".join(before[a:b])) for a, b, _, _ in merged)
    if 2 * kept < MIN_LIKENESS * (len(old) + len(new)):
        merged = [(merged[0][0], merged[-1][1], merged[0][2], merged[-1][3])]
    starts = [0]
    for word in before:
        starts.append(starts[-1] + len(word))
    return [(starts[a], starts[b], "".join(after[c:d])) for a, b, c, d in merged]


def _hunks(snapshot: Snapshot, first: int, old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """The changes of lines of which none is equal: like lines word by word, others as a whole."""
    changes: list[Change] = []
    low, from_ = 0, 0
    for high, to in [*_alike(old, new), (len(old), len(new))]:
        changes += _whole_lines(snapshot, first + low, first + high, new[from_:to])
        if high < len(old):
            changes += [
                Change(Place(first + high, start), Place(first + high, end), text)
                for start, end, text in changed_words(old[high], new[to])
            ]
        low, from_ = high + 1, to + 1
    return changes


def _alike(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs of lines that are the same line changed, in order: the likest together."""
    if len(old) == len(new):
        return [(at, at) for at in range(len(old))]
    if not old or not new or max(len(old), len(new)) > MAX_LINES:
        return []
    bags = [Counter(words(line)) for line in old]
    new_bags = [Counter(words(line)) for line in new]
    # best[i][j]: the greatest likeness of pairs of the lines from i and j on.
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    likeness = [[_likeness(bag, other) for other in new_bags] for bag in bags]
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            paired = likeness[i][j] + best[i + 1][j + 1] if likeness[i][j] else 0.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    pairs = []
    i = j = 0
    while i < len(old) and j < len(new):
        if likeness[i][j] and best[i][j] == likeness[i][j] + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _likeness(bag: Counter[str], other: Counter[str]) -> float:
    """The share of characters in equal words, indentation apart; 0 below MIN_LIKENESS."""
    shared, total, other_total = (
        sum(len(word) * count for word, count in words.items() if not word.isspace())
        for words in (bag & other, bag, other)
    )
    share = 2 * shared / (total + other_total) if shared else 0.0
    return share if share >= MIN_LIKENESS else 0.0


def _whole_lines(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> Iterator[Change]:
    """The replacement of whole lines by others; nothing if there are none of both."""
    if first < end and new:
        yield _replaced(snapshot, first, end, new)
    elif new:
        yield _inserted(snapshot, first, new)
    elif first < end:
        yield _deleted(snapshot, first, end)


def _replaced(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> Change:
    """Replacement of lines, whose last line end stays."""
    stop = Place(end - 1, len(without_end(snapshot.lines[end - 1])))
    return Change(Place(first, 0), stop, snapshot.line_end(first).join(new))


def _inserted(snapshot: Snapshot, at: int, new: Sequence[str]) -> Change:
    """Insertion of lines before line `at`, or after the document's last line."""
    if at < len(snapshot.lines):
        end = snapshot.line_end(at)
        place, text = Place(at, 0), "".join(f"{line}{end}" for line in new)
    else:
        last = len(snapshot.lines) - 1
        end = snapshot.line_end(last)
        place = Place(last, len(without_end(snapshot.lines[last])))
        text = "".join(f"{end}{line}" for line in new)
    return Change(place, place, text)


def _deleted(snapshot: Snapshot, first: int, end: int) -> Change:
    """Deletion of lines and their ends; at the document's end, of the line end before them."""
    if end < len(snapshot.lines):
        return Change(Place(first, 0), Place(end, 0), "")
    stop = Place(end - 1, len(without_end(snapshot.lines[end - 1])))
    if not first:
        return Change(Place(0, 0), stop, "")
    return Change(Place(first - 1, len(without_end(snapshot.lines[first - 1]))), stop, "")
