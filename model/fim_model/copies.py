"""Copies: what follows the same text elsewhere, as candidates that cost no forward of their own.

Code repeats itself, within a file and across the files of a project, more than a small model knows.
The longest text before the cursor that occurs elsewhere is looked up, then shorter tails of it, and
the rest of the line is copied from there; the model then only scores the copies, in the forward
that reads the prompt. Pure text: this module needs no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath

LONGEST_MATCH = 400
"""Characters on each side of a hole that are compared with other places."""

MAX_PLACES = 64
"""Most occurrences examined in each text: a file may have `self.` a thousand times."""

MAX_FILES = 12
"""Most files searched besides the hole's own."""

MAX_CHARS = 400_000
"""Most characters searched in other files: a millisecond's work."""

MAX_COPIES = 4
"""Most different copies of a hole: further ones are rarely right (measured on projects that the
model was not trained on)."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copied text, and how well its place resembles the hole.

    matched: characters that agree before both. behind: characters that agree after both. distance:
    characters between the two, 0 in another file. places: how many places have this text.
    elsewhere: whether none of them is in the hole's own file.
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
    limit: int = MAX_COPIES,
) -> list[Copied]:
    """The rest of the line (or of `lines` lines) as it stands elsewhere, most similar place first.

    others: texts of other files, the likeliest first. Places are ranked by the length of the common
    text before them, then after them, then own file before others, then by distance. If the hole is
    inside a line, a copy must be followed by the rest of that line.
    """
    texts = [prefix, suffix, *others]
    size = _longest_repeated_tail(texts)
    found: dict[str, Copied] = {}
    seen: set[tuple[int, int]] = set()
    while size and len(found) < limit:
        for source, end in _places(texts, size):
            if (source, end) in seen:
                continue
            seen.add((source, end))
            if (copy := _copy(texts, source, end, size, lines)) is not None:
                found[copy.text] = _merged(found.get(copy.text), copy)
        size //= 2
    return sorted(found.values(), key=_similarity, reverse=True)[:limit]


def nearest_names(name: str, others: Iterable[str]) -> list[str]:
    """At most MAX_FILES of the `others` with the suffix of the file `name`: longest common prefix
    with it first, then alphabetically."""
    kind = PurePosixPath(name).suffix
    alike = (other for other in others if PurePosixPath(other).suffix == kind)
    return sorted(alike, key=lambda other: (-_common_length(name, other), other))[:MAX_FILES]


def within_reach(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts of other files that fit MAX_CHARS together, in their order."""
    reached, room = [], MAX_CHARS
    for text in texts:
        if len(text) <= room:
            reached.append(text)
            room -= len(text)
    return tuple(reached)


def _similarity(copy: Copied) -> tuple[int, int, bool, int]:
    return copy.matched, copy.behind, not copy.elsewhere, -copy.distance


def _merged(known: Copied | None, new: Copied) -> Copied:
    """The more similar of two copies with the same text, with the places of both."""
    if known is None:
        return new
    return replace(max(known, new, key=_similarity), places=known.places + new.places)


def _longest_repeated_tail(texts: Sequence[str]) -> int:
    """The length of the first text's longest tail that occurs earlier in it or in another text."""
    prefix, *others = texts
    shortest, longest = 0, min(len(prefix), LONGEST_MATCH)
    while shortest < longest:  # if a tail occurs elsewhere, so does every shorter one
        middle = (shortest + longest + 1) // 2
        tail = prefix[-middle:]
        if prefix.find(tail, 0, len(prefix) - 1) >= 0 or any(tail in text for text in others):
            shortest = middle
        else:
            longest = middle - 1
    return shortest


def _places(texts: Sequence[str], size: int) -> Iterator[tuple[int, int]]:
    """Where the last `size` characters of the first text occur: (number of the text, end), nearest
    first within the first text, then in the others."""
    prefix, *others = texts
    tail = prefix[-size:]
    for end in islice(_ends_before(prefix, tail), MAX_PLACES):
        yield 0, end
    for source, text in enumerate(others, start=1):
        for end in islice(_ends_after(text, tail), MAX_PLACES):
            yield source, end


def _ends_before(text: str, tail: str) -> Iterator[int]:
    """The ends of all occurrences of `tail` but the last one, overlapping ones included."""
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
    """The copy at `start` of a text, where `size` characters before it are known to agree."""
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
    """The length of the common tail of `prefix` and `text[:end]`; `known` characters agree."""
    limit = min(len(prefix), end, LONGEST_MATCH)
    while known < limit and prefix[-known - 1] == text[end - known - 1]:
        known += 1
    return known


def _common_length(a: str, b: str) -> int:
    """The length of the common prefix of two texts."""
    limit = min(len(a), len(b))
    return next((place for place in range(limit) if a[place] != b[place]), limit)
