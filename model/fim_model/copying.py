"""What stood behind the same text elsewhere in a file: a candidate that costs no forward.

Code repeats itself more than a small model knows. The longest text before the cursor that occurs
elsewhere is looked up, and the rest of the line is copied from there; the model then only has to
say how likely that is, in the forward that reads the prompt. Pure text: no model is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

LONGEST_MATCH = 400
"""Characters on each side of a hole that are compared with other places."""

MOST_PLACES = 64
"""Nearest places on each side that are looked at: `self.` may stand in a file a thousand times."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A candidate, and how well its place resembles the hole's, in characters.

    matched: of the text before both. behind: of the text after both. distance: between the two.
    """

    text: str
    matched: int
    behind: int
    distance: int


def copied(prefix: str, suffix: str, lines: int = 1) -> Copied | None:
    """The rest of the line (of so many lines) as it stands elsewhere, None where nothing repeats.

    Of several places the one whose continuation meets the suffix best, then the nearest. Where the
    hole is inside a line, a copy ends where the rest of that line begins, or is none.
    """
    matched = _longest_repeated_tail(prefix, suffix)
    if not matched:
        return None
    found = (
        one
        for text, end, distance in _places(prefix, suffix, matched)
        if (one := _copy(text, end, distance, matched, suffix, lines)) is not None
    )
    return max(found, key=lambda one: (one.behind, -one.distance), default=None)


def _longest_repeated_tail(prefix: str, suffix: str) -> int:
    """The length of the longest end of `prefix` that occurs earlier in it or in `suffix`."""
    shortest, longest = 0, min(len(prefix), LONGEST_MATCH)
    while shortest < longest:  # if an end occurs elsewhere, so does every shorter one
        middle = (shortest + longest + 1) // 2
        tail = prefix[-middle:]
        if tail in suffix or prefix.find(tail, 0, len(prefix) - 1) >= 0:
            shortest = middle
        else:
            longest = middle - 1
    return shortest


def _places(prefix: str, suffix: str, matched: int) -> Iterator[tuple[str, int, int]]:
    """The text, where its copy begins, and how far that is, for each place, nearest first."""
    tail = prefix[-matched:]
    for end in islice(_ends_before(prefix, tail), MOST_PLACES):
        yield prefix, end, len(prefix) - end
    for end in islice(_ends_after(suffix, tail), MOST_PLACES):
        yield suffix, end, end


def _ends_before(text: str, tail: str) -> Iterator[int]:
    """Where each occurrence of `tail` ends but the one at the text's end; overlapping ones too."""
    at = text.rfind(tail, 0, len(text) - 1)
    while at >= 0:
        yield at + len(tail)
        at = text.rfind(tail, 0, at + len(tail) - 1)


def _ends_after(text: str, tail: str) -> Iterator[int]:
    at = text.find(tail)
    while at >= 0:
        yield at + len(tail)
        at = text.find(tail, at + 1)


def _copy(
    text: str, start: int, distance: int, matched: int, suffix: str, lines: int
) -> Copied | None:
    end = _end_of_lines(text, start, lines)
    rest = suffix.partition("\n")[0]
    if rest.strip():
        if not text.endswith(rest, start, end):
            return None
        end -= len(rest)
    behind = _common_length(text[end : end + LONGEST_MATCH], suffix)
    return Copied(text[start:end], matched, behind, distance)


def _end_of_lines(text: str, start: int, lines: int) -> int:
    end = start - 1
    for _ in range(lines):
        end = text.find("\n", end + 1)
        if end < 0:
            return len(text)
    return end


def _common_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)
