"""Words of prose are proposed only if the user has replaced the same words twice: a word replaced
once says nothing about the next place where it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from fim_server.documents.diff import changed_words
from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import MAX_HUNKS, Hunk, Lines
from fim_server.syntax.languages import language_of
from fim_server.syntax.prose import TEXT_LANGUAGES, are_in_prose, is_wording

MIN_TIMES = 2
"""Times that the user must have replaced words of prose before the same is proposed elsewhere."""

_ABOVE, _BELOW = 60, 20
"""Lines around a proposal that are parsed to tell prose from code."""

_Replacement = tuple[int, int, int, str]
"""Characters `[start, end)` of a line, counted from the first, and what replaces them."""


def is_unproven_prose(
    snapshot: Snapshot,
    first: int,
    old: Sequence[str],
    new: Sequence[str],
    hunks: Iterable[Hunk],
    path: str = "",
) -> bool:
    """Whether the lines from `first` on change in nothing but words of prose, and some of those
    words were not replaced MIN_TIMES by the user's hunks. `path` is the document's.

    Takes long after large hunks: run it where it can be stopped.
    """
    changes = _replacements(old, new)
    pairs = [_words(old, change) for change in changes]
    if not pairs or not all(any(pair) and all(map(is_wording, pair)) for pair in pairs):
        return False
    if snapshot.language not in TEXT_LANGUAGES:
        language = language_of(snapshot.language, path)
        top = max(first - _ABOVE, 0)
        lines = [without_end(line) for line in snapshot.lines[top : first + len(old) + _BELOW]]
        spans = ((first - top + at, start, end) for at, start, end, _ in changes)
        if language is None or not are_in_prose(lines, spans, language):
            return False
    times = Counter(pair for hunk in hunks for pair in _replaced_words(hunk.old, hunk.new))
    return any(times[pair] < MIN_TIMES for pair in pairs)


@lru_cache(maxsize=MAX_HUNKS)
def _replaced_words(old: Lines, new: Lines) -> tuple[tuple[str, str], ...]:
    """The words of a hunk and what replaced them. Every proposal reads all recent hunks."""
    return tuple(_words(old, change) for change in _replacements(old, new))


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
    """What stands there and what replaces it, without white space around them."""
    at, start, end, text = change
    return old[at][start:end].strip(), text.strip()
