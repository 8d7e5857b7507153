"""What a person's edits point at: names and literals that went, calls that changed, new names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fim_server.edits.history import Hunk

TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|[^\w\s]")
NAME = re.compile(r"[^\W\d]\w*")
CALL = re.compile(r"([^\W\d]\w*)\s*\(")
_NO_ARGUMENTS = re.compile(r"\(\s*\)")
_MEANS_NOTHING = re.compile(r"[^\w\"']")

_LEAST_SHAPE = 4

FADING = 0.7
"""How much less each older hunk counts."""


@dataclass(frozen=True, slots=True)
class Clue:
    """One hunk, and what it says about other lines; `weight` is its recency, 1 for the latest.

    gone, come: names and literals only in the old, only in the new lines. called: functions that
    are called or defined there, if an argument came or went. shapes: the old lines' tokens.
    """

    hunk: Hunk
    weight: float
    gone: frozenset[str]
    come: frozenset[str]
    called: frozenset[str]
    shapes: tuple[frozenset[str], ...]


def clues_of(hunks: Sequence[Hunk]) -> list[Clue]:
    """The clues of hunks that are given oldest first, the latest first."""
    return [_clue(hunk, FADING**age) for age, hunk in enumerate(reversed(hunks))]


def _clue(hunk: Hunk, weight: float) -> Clue:
    old, new = tokens(hunk.old), tokens(hunk.new)
    before, after = "\n".join(hunk.old), "\n".join(hunk.new)
    called = frozenset(CALL.findall(before)) & frozenset(CALL.findall(after))
    return Clue(
        hunk,
        weight,
        gone=frozenset(one for one in old - new if _means_something(one)),
        come=frozenset(one for one in new - old if _means_something(one)),
        called=called if _arguments(before) != _arguments(after) else frozenset(),
        shapes=tuple(shape for line in hunk.old if len(shape := tokens([line])) >= _LEAST_SHAPE),
    )


def tokens(lines: Iterable[str]) -> frozenset[str]:
    """The names, literals and signs of some lines."""
    return frozenset(token for line in lines for token in TOKEN.findall(line))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared tokens of all tokens, 0..1."""
    return len(one & other) / len(one | other) if one or other else 0.0


def _arguments(text: str) -> tuple[int, int]:
    """Changes when an argument comes or goes, not when one is renamed."""
    return text.count(","), len(_NO_ARGUMENTS.findall(text))


def _means_something(token: str) -> bool:
    return not (len(token) == 1 and _MEANS_NOTHING.match(token))
