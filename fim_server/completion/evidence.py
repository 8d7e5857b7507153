"""What the front-end knows of a suggestion that the model does not: does the document still parse,
do its names stand anywhere, where does the cursor stand.

`evidence` is pure: the server weighs suggestions by it, and `fim-server eval gate` fits the weights
with the same function. It works without grammars, and then knows less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fim_model.requests import CompletionItem, Gate

from fim_server.completion.silence import Silence
from fim_server.syntax.known_names import Unknown, new_names, unknown
from fim_server.syntax.languages import language_of
from fim_server.syntax.parsing import parsed
from fim_server.syntax.soundness import breaks

SYNTAX_CHARS = 8000
"""Characters on each side of the cursor that are parsed, from a line's start to a line's end."""

NAME_CHARS = 100_000
"""Characters on each side of the cursor in which names are looked up."""


UNKNOWN_FEATURES = ("unknown_names", "unknown_attributes")
FEATURES = frozenset(["copied", "breaks", *UNKNOWN_FEATURES, "length", "whole_line", "mid_word"])
"""What `Evidence.features` knows."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The document around a cursor, at most NAME_CHARS on each side, and texts of its neighbours.

    language: the editor's identifier. path: names the language by its suffix where that is unknown.
    """

    before: str
    after: str
    language: str = ""
    path: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a suggestion.

    length: characters. breaks: the document would parse worse. unknown: names that stand nowhere
    else. Without a grammar the two are False and empty. copied: the text stands elsewhere.
    whole_line, mid_word: what stands left of the cursor.
    """

    length: int
    breaks: bool
    unknown: Unknown
    copied: bool
    whole_line: bool
    mid_word: bool

    def features(self) -> dict[str, float]:
        """The numbers that `Gate.weights` weighs, by name."""
        return {
            "copied": float(self.copied),
            "breaks": float(self.breaks),
            "unknown_names": math.log1p(len(self.unknown.names)),
            "unknown_attributes": math.log1p(len(self.unknown.attributes)),
            "length": math.log1p(self.length),
            "whole_line": float(self.whole_line),
            "mid_word": float(self.mid_word),
        }


def evidence(around: Surroundings, text: str, over: int = 0, *, copied: bool = False) -> Evidence:
    """The evidence on `text`, which takes the place of `over` characters right of the cursor."""
    before, after = around.before, around.after[over:]
    line = before[before.rfind("\n") + 1 :]
    language = language_of(around.language, around.path)
    near_before, near_after = excerpt(before, after)
    completed = near_before + text + near_after
    root = parsed(completed, language) if language is not None else None
    broken, names = False, Unknown()
    if root is not None and language is not None:
        span = len(near_before), len(near_before) + len(text)
        found = tuple(new_names(before, text, after, around.others))
        broken = breaks(root, near_before, near_after, language)
        names = unknown(found, root, completed, span, language)
    return Evidence(
        length=len(text),
        breaks=broken,
        unknown=names,
        copied=copied,
        whole_line=not line.strip(),
        mid_word=_is_word(before[-1:]) and _is_word(text[:1]),
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an item is not shown. about: a name in its text; never logged."""

    silence: Silence
    about: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """An item's confidence by a gate, of what the model and the evidence say."""

    confidence: float
    gate: Gate
    model: float
    evidence: Evidence

    def refused(self, threshold: float) -> Refused:
        """Why the confidence is below the threshold: what would have to be otherwise."""
        features = self.evidence.features()
        for silence, names, about in (
            (Silence.WOULD_NOT_PARSE, ("breaks",), ""),
            (Silence.UNKNOWN_NAME, UNKNOWN_FEATURES, next(iter(self.evidence.unknown), "")),
        ):
            without = features | dict.fromkeys(names, 0.0)
            if without != features and weighed(self.gate, self.model, without) >= threshold:
                return Refused(silence, about)
        return Refused(Silence.LOW_CONFIDENCE)


@dataclass(frozen=True, slots=True)
class Weigher:
    """Weighs the items of one hole by a gate's weights."""

    gate: Gate
    around: Surroundings

    def __call__(self, item: CompletionItem, over: int) -> Weight:
        """The weight of an item with its final text, which replaces `over` characters."""
        copied = item.finish == "copied"
        found = evidence(self.around, item.text, over, copied=copied)
        confidence = weighed(self.gate, item.confidence, found.features())
        return Weight(confidence, self.gate, item.confidence, found)


def is_fitted(gate: Gate) -> bool:
    """Whether a gate's weights are for these features; another version may have had others."""
    return set(gate.weights) <= FEATURES


def weighed(gate: Gate, confidence: float, features: Mapping[str, float]) -> float:
    """The probability (0..1) that a suggestion is right, of the model's confidence and the
    evidence."""
    odds = gate.bias + gate.confidence * log_odds(confidence)
    odds += sum(weight * features.get(name, 0.0) for name, weight in gate.weights.items())
    return 1 / (1 + math.exp(min(-odds, 700)))


def log_odds(probability: float) -> float:
    """The logarithm of the odds of a probability, of certain ones that of one in a million."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def excerpt(before: str, after: str) -> tuple[str, str]:
    """At most SYNTAX_CHARS on each side, whole lines."""
    if len(before) > SYNTAX_CHARS:
        near = before[-SYNTAX_CHARS:]
        before = near[near.find("\n") + 1 :]
    if len(after) > SYNTAX_CHARS:
        near = after[:SYNTAX_CHARS]
        after = near[: near.rfind("\n") + 1] or near
    return before, after


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
