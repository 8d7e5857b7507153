"""The edit history: the user's keystrokes coalesced into hunks of whole lines, with their times.

A hunk keeps its lines as they were and where they are now. A change that touches a hunk extends it;
one that restores its old lines removes it, and it is remembered as undone. Changes too large to be
typed (a file replaced on disk, a formatter), and those of very long lines, are not recorded.
What differs is read from what two versions of a document do not share, not from their whole texts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import dedent

from fim_model.requests import PastEdit

from fim_server.documents.alignment import differences
from fim_server.documents.documents import Snapshot, without_end
from fim_server.documents.lines import Lines as DocumentLines
from fim_server.documents.lines import changed_ranges, common_ends

MAX_LINES = 40
"""Most lines of a hunk; a larger change was not typed."""

MAX_LINE_CHARS = 1000
"""Longest line of a hunk. Longer ones are data or generated: nothing is proposed for them, and
comparing their tokens would take long."""

MAX_HUNKS = 100
MAX_UNDONE = 500
MAX_TRANSITIONS = 200

RECENT_SECONDS = 300.0
"""The age up to which something may follow from an edit."""

_SPLIT_LINES = 5000
"""Most lines in which separate changes of one message are found by a diff."""

Lines = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Transition:
    """The lines `old` of a document became `new`, both without line ends and without the lines that
    they share at either end."""

    uri: str
    old: Lines
    new: Lines

    @classmethod
    def of(cls, uri: str, old: Sequence[str], new: Sequence[str]) -> Transition:
        before, after = tuple(old), tuple(new)
        head, tail = common_ends(before, after)
        return cls(uri, before[head : len(before) - tail], after[head : len(after) - tail])

    @property
    def reversed(self) -> Transition:
        return Transition(self.uri, self.new, self.old)


@dataclass(frozen=True, slots=True)
class Hunk:
    """A contiguous change: the lines `old` became `new`, which now begin at line `first`.

    at: the time of the last change to it, in seconds of the caller's clock.
    """

    uri: str
    first: int
    old: Lines
    new: Lines
    at: float

    @property
    def end(self) -> int:
        """The line below the last one of the hunk."""
        return self.first + len(self.new)

    @property
    def blank(self) -> bool:
        """Whether only white space changed."""
        return "".join("".join(self.old).split()) == "".join("".join(self.new).split())

    def past_edits(self) -> Iterator[PastEdit]:
        """The hunk as the model reads it: each changed line by itself if old and new lines pair up,
        else as one block without the shared indentation."""
        if len(self.old) == len(self.new):
            pairs = zip(self.old, self.new, strict=True)
            yield from (PastEdit(old.strip(), new.strip()) for old, new in pairs if old != new)
        else:
            yield PastEdit(_block(self.old), _block(self.new))


class History:
    """The recent hunks of all open documents. Belongs to one event loop."""

    def __init__(self) -> None:
        self._hunks: list[Hunk] = []
        self._transitions: deque[Transition] = deque(maxlen=MAX_TRANSITIONS)
        self._undone: OrderedDict[Transition, None] = OrderedDict()

    def recent(self, now: float) -> list[Hunk]:
        """The hunks from which something may follow, of all documents, oldest first."""
        return [hunk for hunk in self._hunks if now - hunk.at <= RECENT_SECONDS and not hunk.blank]

    def was_undone(self, transition: Transition) -> bool:
        """Whether the user reverted this change."""
        return transition in self._undone

    def forget(self, uri: str) -> None:
        """Drop the hunks of a closed document; its undone changes are kept."""
        self._hunks = [hunk for hunk in self._hunks if hunk.uri != uri]

    def record(self, before: Snapshot, after: Snapshot, now: float) -> None:
        """Record one change of a document."""
        lines = DocumentLines.of(before.lines)
        # From the bottom up, so that the line numbers of the remaining changes stay valid.
        for first, end, new in reversed(list(changed_lines(lines, after.lines))):
            if _was_typed(lines, first, end, new):
                old = [without_end(line) for line in lines[first:end]]
                kept = [without_end(line) for line in new]
                self._note(Transition.of(before.uri, old, kept))
                self._absorb(before.uri, lines, first, end, kept, now)
            else:
                self._replace(before.uri, first, end, len(new))
            lines = lines.spliced(first, end, new)
        del self._hunks[:-MAX_HUNKS]

    def _note(self, transition: Transition) -> None:
        """Remember a transition, and if it reverts an earlier one, that that one is undone."""
        if transition.old == transition.new:
            return
        back = transition.reversed
        self._undone.pop(transition, None)
        if back in self._transitions:
            self._transitions.remove(back)
            self._remember_undone(back)
        self._transitions.append(transition)

    def _remember_undone(self, transition: Transition) -> None:
        self._undone[transition] = None
        if len(self._undone) > MAX_UNDONE:
            self._undone.popitem(last=False)

    def _absorb(
        self, uri: str, lines: Sequence[str], first: int, end: int, new: Sequence[str], now: float
    ) -> None:
        """Merge a change with all hunks that it touches into one hunk; shift the hunks below."""
        touched = sorted(
            (hunk for hunk in self._hunks if _touches(hunk, uri, first, end)),
            key=lambda hunk: (hunk.first, len(hunk.new)),
        )
        low = min([first, *(hunk.first for hunk in touched)])
        high = max([end, *(hunk.end for hunk in touched)])
        old: list[str] = []
        at = low
        for hunk in touched:
            old += [*map(without_end, lines[at : hunk.first]), *hunk.old]
            at = hunk.end
        old += map(without_end, lines[at:high])
        kept = [
            *map(without_end, lines[low:first]),
            *new,
            *map(without_end, lines[end:high]),
        ]
        self._hunks = [hunk for hunk in self._hunks if hunk not in touched]
        self._shift(uri, end, len(new) - (end - first))
        head, tail = common_ends(old, kept)
        small = max(len(old), len(kept)) - head - tail <= MAX_LINES
        if old == kept:
            for hunk in touched:
                self._remember_undone(Transition.of(uri, hunk.old, hunk.new))
        elif small:
            merged = Transition.of(uri, old, kept)
            self._hunks.append(Hunk(uri, low + head, merged.old, merged.new, now))

    def _replace(self, uri: str, first: int, end: int, count: int) -> None:
        """Drop the hunks in lines that a large change replaced."""
        self._hunks = [hunk for hunk in self._hunks if not _touches(hunk, uri, first, end)]
        self._shift(uri, end, count - (end - first))

    def _shift(self, uri: str, end: int, by: int) -> None:
        if by:
            self._hunks = [
                replace(hunk, first=hunk.first + by) if _is_below(hunk, uri, end) else hunk
                for hunk in self._hunks
            ]


def past_edits(hunks: Sequence[Hunk], limit: int) -> tuple[PastEdit, ...]:
    """The last `limit` edits of hunks, oldest first."""
    return tuple([edit for hunk in hunks for edit in hunk.past_edits()][-limit:])


def changed_lines(
    before: Sequence[str], after: Sequence[str]
) -> Iterator[tuple[int, int, Sequence[str]]]:
    """Ranges `[first, end)` of `before` and the lines that replace them, from the top down."""
    for first, end, new_first, new_end in changed_ranges(before, after):
        new = after[new_first:new_end]
        if max(end - first, len(new)) > _SPLIT_LINES or min(end - first, len(new)) < 2:
            yield first, end, new
        else:
            for low, high, from_, to in differences(before[first:end], new):
                yield first + low, first + high, new[from_:to]


def _was_typed(lines: Sequence[str], first: int, end: int, new: Sequence[str]) -> bool:
    """Whether a change is small enough for an edit."""
    if end - first > MAX_LINES or len(new) > MAX_LINES:
        return False
    return all(len(line) <= MAX_LINE_CHARS for line in (*lines[first:end], *new))


def _touches(hunk: Hunk, uri: str, first: int, end: int) -> bool:
    """Whether a change of lines `[first, end)` continues a hunk: in it, or right below it, as when
    a second line is typed. A change right above a hunk is a new one."""
    if hunk.uri != uri:
        return False
    inside = hunk.first < end and first <= hunk.end
    return inside or (not hunk.new and first <= hunk.first <= end)


def _is_below(hunk: Hunk, uri: str, end: int) -> bool:
    return hunk.uri == uri and hunk.first >= end


def _block(lines: Lines) -> str:
    return dedent("\n".join(lines)).strip()
