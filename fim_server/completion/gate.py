"""The decision to show an answer or to stay silent, with the reason for the silence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fim_model.requests import Completion, CompletionItem

from fim_server.completion.evidence import Refused, Surroundings, Weigher, is_fitted
from fim_server.completion.hole import Hole, well_formed
from fim_server.completion.left_side import without_restated
from fim_server.completion.markers import without_markers
from fim_server.completion.right_side import Fit, fitted
from fim_server.completion.scope import within_scope
from fim_server.completion.silence import Silence
from fim_server.completion.trim import (
    is_word,
    repeats_itself,
    repeats_next_lines,
    repeats_previous_lines,
)

MIN_SHARE_OF_BEST = 0.05
"""Least confidence of a second suggestion, as a share of the best one's."""

MIN_ALTERNATIVE = 0.001
"""Least confidence of a second suggestion."""

_WORD = re.compile(r"\w")
_LICENCE = re.compile(
    r"copyright|licen[cs]ed under|spdx-license|all rights reserved|permission is hereby granted",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The texts that pass the gate, best first; `silence` is None exactly if there are any.

    `items` are the same with their confidence, `fits` with what they replace. `about` is what the
    silence is about, such as a name: it is the user's or the model's text, and never logged.
    """

    texts: list[str]
    silence: Silence | None
    items: list[CompletionItem] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)
    about: str = ""

    def __post_init__(self) -> None:
        if not self.fits:
            object.__setattr__(self, "fits", [Fit(text, 0, text) for text in self.texts])


def confidence_threshold(
    asked: float | None, advised: float, *, invoked: bool, prose: float = 0.0
) -> float:
    """The threshold: the setting `asked` if it is set, otherwise what the model advises.

    Explicit requests show answers of any confidence. `prose` is the least for others in prose, 0 in
    code.
    """
    if asked is not None:
        return asked
    return 0.0 if invoked else max(advised, prose)


def weigher(completion: Completion, around: Surroundings) -> Weigher | None:
    """What weighs the items of a completion; None where nothing was fitted for these features."""
    gate = completion.gate
    return Weigher(gate, around) if gate is not None and is_fitted(gate) else None


def judge_context(hole: Hole) -> Silence | None:
    """Why the model is not even asked at this hole; None if it may be."""
    has_words = _WORD.search(hole.before) or _WORD.search(hole.after)
    return None if has_words else Silence.NOTHING_TO_GO_ON


def judge(
    items: Iterable[CompletionItem],
    hole: Hole,
    min_confidence: float,
    limit: int | None = None,
    *,
    replaces: bool = False,
    weigh: Weigher | None = None,
) -> Judgement:
    """The distinct answers to show, `limit` at most (None: all), or the best answer's silence.

    Answers that differ only in white space count as one. All but the best one must be plausible:
    they need MIN_ALTERNATIVE, and MIN_SHARE_OF_BEST of its confidence. `replaces`: whether the
    client shows an item that takes the place of the rest of the line. `weigh` gives items another
    confidence, which ranks them.
    """
    shown: dict[str, tuple[CompletionItem, Fit]] = {}
    refused: list[Refused] = []
    for item in items:
        verdict = _judged(item, hole, min_confidence, replaces=replaces, weigh=weigh)
        if isinstance(verdict, Refused):
            refused.append(verdict)
        else:
            shown.setdefault("".join(verdict[1].text.split()), verdict)
    if not shown:
        why = refused[0] if refused else Refused(Silence.NOTHING_WRITTEN)
        return Judgement([], why.silence, about=why.about)
    ranked = list(shown.values())
    if weigh is not None:
        ranked.sort(key=lambda verdict: -verdict[0].confidence)
    best, *others = ranked
    least = max(MIN_ALTERNATIVE, MIN_SHARE_OF_BEST * best[0].confidence)
    kept = [best, *(other for other in others if other[0].confidence >= least)][:limit]
    found, fits = [item for item, _ in kept], [fit for _, fit in kept]
    return Judgement([fit.text for fit in fits], None, found, fits)


def judge_item(item: CompletionItem, hole: Hole, min_confidence: float) -> str | Silence:
    """The trimmed text to show, or why there is none."""
    verdict = _judged(item, hole, min_confidence)
    return verdict.silence if isinstance(verdict, Refused) else verdict[1].text


def _judged(
    item: CompletionItem,
    hole: Hole,
    min_confidence: float,
    *,
    replaces: bool = False,
    weigh: Weigher | None = None,
) -> tuple[CompletionItem, Fit] | Refused:
    """The item with its final text and confidence, and how it fits; or why it is not shown."""
    fit = trimmed(item.text, hole, replaces=replaces)
    doubtful = weigh is None and item.confidence < min_confidence
    if doubtful and fit is not Silence.BLANK:
        return Refused(Silence.LOW_CONFIDENCE)
    if isinstance(fit, Silence):
        return Refused(fit)
    item = replace(item, text=fit.text)
    if weigh is None:
        return item, fit
    weight = weigh(item, fit.over)
    if weight.confidence < min_confidence:
        return weight.refused(min_confidence)
    return replace(item, confidence=weight.confidence), fit


def trimmed(text: str, hole: Hole, *, replaces: bool = False) -> Fit | Silence:
    """What is left of an answer's text at a hole, or why nothing is."""
    text = without_markers(well_formed(text), hole.before + hole.after, hole.language)
    if not text.strip():
        return Silence.BLANK
    head, _, line_before = hole.before.rpartition("\n")
    line_after, _, following = hole.after.partition("\n")
    if _LICENCE.search(text) and not _LICENCE.search(hole.before + hole.after):
        return Silence.LICENCE_TEXT
    text = without_restated(text, hole.before, hole.language)
    if not text.strip():
        return Silence.NOTHING_LEFT_AFTER_TRIMMING
    text = within_scope(text, line_before)
    if not text.strip():
        return Silence.OUT_OF_SCOPE
    fit = fitted(text, hole, replaces=replaces)
    text = fit.text
    if not text.strip():
        repeats = line_after.strip().startswith(fit.whole.strip())
        return Silence.NOTHING_LEFT_AFTER_TRIMMING if repeats else Silence.UNBALANCED
    if is_word(hole.before[-1:]) and is_word(hole.after[:1]) and not all(map(is_word, text)):
        return Silence.MID_WORD
    completed = line_before + text + line_after[fit.over :]
    if repeats_next_lines(completed, following):
        return Silence.REPEATS_NEXT_LINES
    if repeats_previous_lines(completed, head):
        return Silence.REPEATS_PREVIOUS_LINES
    if repeats_itself(text):
        return Silence.REPEATS_ITSELF
    return fit
