"""Proposals that are not made: those that the user rejected, in the same place, and words of prose
that the user has not replaced twice.

Clients of Copilot's protocol do not report rejections. For them, a proposal that was shown twice
while the user edited something else counts as rejected.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fim_server.documents.diff import changed_words
from fim_server.documents.documents import without_end
from fim_server.edits.history import Hunk
from fim_server.edits.next_edit import Proposal
from fim_server.syntax.languages import language_of
from fim_server.syntax.prose import TEXT_LANGUAGES, are_in_prose, is_wording

MAX_IGNORED = 2
"""Times that a proposal is shown and ignored before it counts as rejected."""

MAX_REMEMBERED = 500

MIN_TIMES = 2
"""Times that the user must have replaced words of prose before the same is proposed elsewhere."""

_ABOVE, _BELOW = 60, 20
"""Lines around a proposal that are parsed to tell prose from code."""

_Replacement = tuple[int, int, int, str]
"""Characters `[start, end)` of a line, counted from the first, and what replaces them."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A proposal by its text and its neighbouring lines, so that edits above do not change it."""

    uri: str
    above: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    below: str

    @classmethod
    def of(cls, proposal: Proposal) -> _Key:
        lines = proposal.snapshot.lines
        above = without_end(lines[proposal.first - 1]) if proposal.first else ""
        below = without_end(lines[proposal.end]) if proposal.end < len(lines) else ""
        return cls(proposal.uri, above, proposal.old, proposal.new, below)


class Rejections:
    """The latest MAX_REMEMBERED rejections."""

    def __init__(self) -> None:
        self._rejected: OrderedDict[_Key, None] = OrderedDict()
        self._times_ignored: Counter[_Key] = Counter()

    def reject(self, proposal: Proposal) -> None:
        self._rejected[_Key.of(proposal)] = None
        if len(self._rejected) > MAX_REMEMBERED:
            self._rejected.popitem(last=False)

    def ignored(self, proposal: Proposal) -> None:
        """Count that the proposal was shown and the user edited something else."""
        key = _Key.of(proposal)
        self._times_ignored[key] += 1
        if self._times_ignored[key] >= MAX_IGNORED:
            self.reject(proposal)
        if len(self._times_ignored) > MAX_REMEMBERED:
            self._times_ignored.clear()

    def was_rejected(self, proposal: Proposal) -> bool:
        return _Key.of(proposal) in self._rejected


def is_unproven_prose(proposal: Proposal, hunks: Iterable[Hunk], path: str = "") -> bool:
    """Whether a proposal replaces nothing but words of prose, and some of them were not replaced
    MIN_TIMES by the user's hunks: a word replaced once says nothing about the next place where it
    stands. `path` is the document's."""
    changes = _replacements(proposal.old, proposal.new)
    pairs = [_words(proposal.old, change) for change in changes]
    if not pairs or not all(any(pair) and all(map(is_wording, pair)) for pair in pairs):
        return False
    snapshot = proposal.snapshot
    if snapshot.language not in TEXT_LANGUAGES:
        language = language_of(snapshot.language, path)
        top = max(proposal.first - _ABOVE, 0)
        lines = [without_end(line) for line in snapshot.lines[top : proposal.end + _BELOW]]
        spans = ((proposal.first - top + at, start, end) for at, start, end, _ in changes)
        if language is None or not are_in_prose(lines, spans, language):
            return False
    times = Counter(
        _words(hunk.old, change) for hunk in hunks for change in _replacements(hunk.old, hunk.new)
    )
    return any(times[pair] < MIN_TIMES for pair in pairs)


def _replacements(old: Sequence[str], new: Sequence[str]) -> list[_Replacement]:
    """The words replaced line by line; none if the numbers of lines differ."""
    if len(old) != len(new):
        return []
    return [
        (at, *change)
        for at, (before, after) in enumerate(zip(old, new, strict=True))
        for change in changed_words(before, after)
    ]


def _words(old: Sequence[str], change: _Replacement) -> tuple[str, str]:
    """What stood there and what replaces it, without white space around them."""
    at, start, end, text = change
    return old[at][start:end].strip(), text.strip()
