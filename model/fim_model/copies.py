"""What stood behind the same text elsewhere: candidates that cost no forward of their own.

Code repeats itself more than a small model knows, in one file and from file to file of a project.
The longest text before the cursor that occurs elsewhere is looked up, then shorter ends of it, and
the rest of the line is copied from there; the model then only has to say how likely each copy is,
in the forward that reads the prompt. Pure text: no model is needed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath

LONGEST_MATCH = 400
"""Characters on each side of a hole that are compared with other places."""

MOST_PLACES = 64
"""Nearest places of each text that are looked at: `self.` may stand in a file a thousand times."""

MOST_FILES = 12
"""Files beside the hole's own that are searched."""

MOST_CHARS = 400_000
"""Of other files that are searched: a millisecond's work."""

MOST_COPIES = 4
"""Different copies that the model is asked about: more are rarely right (measured on projects
that it was not trained on)."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A candidate, and how well its place resembles the hole's, in characters.

    matched: of the text before both. behind: of the text after both. distance: between the two, 0
    in another file. places: how many places have the same. elsewhere: whether none of them is in
    the hole's own file.
    """

    text: str
    matched: int
    behind: int
    distance: int
    places: int = 1
    elsewhere: bool = False


def copies(
    prefix: str,
    suffix: str,
    others: Sequence[str] = (),
    *,
    lines: int = 1,
    most: int = MOST_COPIES,
) -> list[Copied]:
    """The rest of the line (of so many lines) as it stands elsewhere, the most alike places first.

    others: texts of other files, the likeliest first. Alike are places with a longer text before
    them in common, then behind them, then in this file, then nearer ones. Where the hole is inside
    a line, a copy ends where the rest of that line begins, or is none.
    """
    texts = [prefix, suffix, *others]
    size = _longest_repeated_tail(texts)
    found: dict[str, Copied] = {}
    seen: set[tuple[int, int]] = set()
    while size and len(found) < most:
        for source, end in _places(texts, size):
            if (source, end) in seen:
                continue
            seen.add((source, end))
            if (one := _copy(texts, source, end, size, lines)) is not None:
                found[one.text] = _with_another_place(found.get(one.text), one)
        size //= 2
    return sorted(found.values(), key=_likeness, reverse=True)[:most]


def nearest_names(name: str, others: Iterable[str]) -> list[str]:
    """Names of files beside the file `name`, at most MOST_FILES: those of its kind that begin most
    like its own, then in the order of the alphabet."""
    kind = PurePosixPath(name).suffix
    alike = (other for other in others if PurePosixPath(other).suffix == kind)
    return sorted(alike, key=lambda other: (-_common_length(name, other), other))[:MOST_FILES]


def within_reach(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts of other files that are searched: those that fit MOST_CHARS, in their order."""
    reached, room = [], MOST_CHARS
    for text in texts:
        if len(text) <= room:
            reached.append(text)
            room -= len(text)
    return tuple(reached)


def _likeness(one: Copied) -> tuple[int, int, bool, int]:
    return one.matched, one.behind, not one.elsewhere, -one.distance


def _with_another_place(known: Copied | None, one: Copied) -> Copied:
    """The more alike of two places with the same text, counted together."""
    if known is None:
        return one
    return replace(max(known, one, key=_likeness), places=known.places + one.places)


def _longest_repeated_tail(texts: Sequence[str]) -> int:
    """The length of the longest end of the first text that occurs earlier in it or in another."""
    prefix, *others = texts
    shortest, longest = 0, min(len(prefix), LONGEST_MATCH)
    while shortest < longest:  # if an end occurs elsewhere, so does every shorter one
        middle = (shortest + longest + 1) // 2
        tail = prefix[-middle:]
        if prefix.find(tail, 0, len(prefix) - 1) >= 0 or any(tail in text for text in others):
            shortest = middle
        else:
            longest = middle - 1
    return shortest


def _places(texts: Sequence[str], size: int) -> Iterator[tuple[int, int]]:
    """In which text the last `size` characters of the first one stand, and where they end there:
    the nearest places of the first text, then of the others."""
    prefix, *others = texts
    tail = prefix[-size:]
    for end in islice(_ends_before(prefix, tail), MOST_PLACES):
        yield 0, end
    for source, text in enumerate(others, start=1):
        for end in islice(_ends_after(text, tail), MOST_PLACES):
            yield source, end


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


def _copy(texts: Sequence[str], source: int, start: int, size: int, lines: int) -> Copied | None:
    """What stands at `start` of a text, where `size` characters before it are known to agree."""
    prefix, suffix = texts[:2]
    text = texts[source]
    end = _end_of_lines(text, start, lines)
    rest = suffix.partition("\n")[0]
    if rest.strip():
        if not text.endswith(rest, start, end):
            return None
        end -= len(rest)
    if not text[start:end].strip():
        return None
    return Copied(
        text[start:end],
        matched=_common_tail(prefix, text, start, size),
        behind=_common_length(text[end : end + LONGEST_MATCH], suffix),
        distance=(len(prefix) - start, start)[source] if source < 2 else 0,
        elsewhere=source >= 2,
    )


def _end_of_lines(text: str, start: int, lines: int) -> int:
    end = start - 1
    for _ in range(lines):
        end = text.find("\n", end + 1)
        if end < 0:
            return len(text)
    return end


def _common_tail(prefix: str, text: str, end: int, known: int) -> int:
    """How many characters before `end` are those at the end of `prefix`; `known` ones are."""
    most = min(len(prefix), end, LONGEST_MATCH)
    while known < most and prefix[-known - 1] == text[end - known - 1]:
        known += 1
    return known


def _common_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)
