"""The score of a draft: the log-odds, in nats, that every line it changes is right.

A logistic model over what is known before a model is asked. Its weights are fitted on the replayed
commits of real histories (`fim-server eval edits --git … --fit`) and kept in `score.json`: one set
that all rules share, and for each rule what differs from it, the less the fewer drafts it has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path

from fim_server.edits.rules.drafts import Signs

WEIGHTS = Path(__file__).with_name("score.json")

FEATURES = (
    "bias", "likeness", "tokens", "context", "rank", "text", "changes", "repeated", "repeats",
    "age", "places", "alone", "next", "skipped", "others_above", "distance", "scope", "above",
    "passed", "lines", "agreeing", "rivals", "repeated_tokens", "unrepeated_places", "hunks",
    "mechanical", "first_mechanical", "elsewhere", "done", "near", "indented_alike", "tests",
    "small", "known", "latest", "same_change",
)  # fmt: skip
"""In the order of `features_of` and of the weights."""


_NEAR = 3
"""Lines."""

_LIKE = {"renames.exported": "renames.defined"}
"""Kinds whose weights are another one's: the commits that are replayed change one file, so they
have no rename in another."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where a draft stands and what it follows from.

    repeats: hunks from which the same draft follows. age: hunks made after the latest of them.
    places: lines for which the rule drafts something after that hunk; others_above: the share of
    them above the latest edit; skipped: whether the user went past one of them. next: it is the
    first of them below that edit. distance: lines to it. in_scope: in the same definition. above:
    above it. passed: below one of the hunks that it follows from and above another. lines: how many
    it changes. agreeing: other rules that draft the same; rivals: other texts for the same lines.
    changed: the share of the lines' tokens that change, 0 to 1. indented_alike: as the edited line.
    in_tests: the document is a test. known: the new text stands elsewhere on the page, apart from
    the edited lines. same_change: how
    alike the tokens are that the hunk and the draft take away and add, 0 to 1.
    hunks: recent ones; mechanical: the share of them whose tokens changed as in another one.
    elsewhere: the hunk is in another document.
    """

    repeats: int = 1
    age: int = 0
    places: int = 1
    others_above: float = 0.0
    skipped: bool = False
    next: bool = False
    distance: int = 0
    in_scope: bool = False
    above: bool = False
    passed: bool = False
    lines: int = 1
    agreeing: int = 0
    rivals: int = 0
    hunks: int = 1
    mechanical: float = 0.0
    elsewhere: bool = False
    changed: float = 0.0
    indented_alike: bool = False
    in_tests: bool = False
    known: bool = False
    same_change: float = 1.0


def features_of(signs: Signs, around: Circumstances) -> tuple[float, ...]:
    """The values of FEATURES, each about 0 to 1."""
    tokens = min(log2(1 + signs.tokens + signs.context) / 5, 1.5)
    places = min(log2(around.places) / 5, 1.5)
    repeated = around.repeats > 1
    return (
        1.0,
        signs.likeness,
        min(log2(1 + signs.tokens) / 5, 1.5),
        min(log2(1 + signs.context) / 4, 1.5),
        min(signs.rank, 3) / 3,
        float(signs.text),
        min(signs.changes - 1, 3) / 3,
        float(repeated),
        min(around.repeats - 1, 3) / 3,
        min(around.age, 6) / 6,
        places,
        float(around.places == 1),
        float(around.next),
        float(around.skipped),
        around.others_above,
        log2(1 + around.distance) / 10,
        float(around.in_scope),
        float(around.above),
        float(around.passed),
        log2(around.lines) / 3,
        min(around.agreeing, 3) / 3,
        min(around.rivals, 3) / 3,
        tokens * repeated,
        places * (not repeated),
        min(log2(around.hunks) / 3, 1.0),
        around.mechanical,
        around.mechanical * (not repeated),
        float(around.elsewhere),
        around.repeats / (around.repeats + around.places),
        float(around.distance <= _NEAR),
        float(around.indented_alike),
        float(around.in_tests),
        1.0 - min(around.changed, 1.0),
        float(around.known),
        float(around.age == 0),
        around.same_change,
    )


def odds(name: str, features: Sequence[float]) -> float:
    """The log-odds of a draft of this rule and kind (`rule` or `rule.kind`), in nats."""
    shared, own = weights()
    differs = own.get(_LIKE.get(name, name), ())
    total = sum(weight * value for weight, value in zip(shared, features, strict=True))
    return total + sum(weight * value for weight, value in zip(differs, features, strict=False))


@cache
def weights() -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    """The shared weights, and what is added to them for each rule and kind."""
    raw = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    shared = [float(raw["shared"].get(feature, 0.0)) for feature in FEATURES]
    own = {
        name: [float(differs.get(feature, 0.0)) for feature in FEATURES]
        for name, differs in raw["rules"].items()
    }
    return shared, own
