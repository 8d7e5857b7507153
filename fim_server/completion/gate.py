"""The decision to show an answer or to stay silent, with the reason for the silence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fim_model.requests import CompletionItem

from fim_server.completion.hole import Hole
from fim_server.completion.scope import within_scope
from fim_server.completion.silence import Silence
from fim_server.completion.trim import (
    cut,
    is_word,
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

    `items` are the same with their confidence.
    """

    texts: list[str]
    silence: Silence | None
    items: list[CompletionItem] = field(default_factory=list)


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


def judge_context(hole: Hole) -> Silence | None:
    """Why the model is not even asked at this hole; None if it may be."""
    has_words = _WORD.search(hole.before) or _WORD.search(hole.after)
    return None if has_words else Silence.NOTHING_TO_GO_ON


def judge(
    items: Iterable[CompletionItem], hole: Hole, min_confidence: float, limit: int | None = None
) -> Judgement:
    """The distinct answers to show, `limit` at most (None: all), or the best answer's silence.

    Answers that differ only in white space count as one. All but the best one must be plausible:
    they need MIN_ALTERNATIVE, and MIN_SHARE_OF_BEST of its confidence.
    """
    shown: dict[str, CompletionItem] = {}
    silences: list[Silence] = []
    for item in items:
        verdict = judge_item(item, hole, min_confidence)
        if isinstance(verdict, Silence):
            silences.append(verdict)
        else:
            shown.setdefault("".join(verdict.split()), replace(item, text=verdict))
    if not shown:
        return Judgement([], silences[0] if silences else Silence.NOTHING_WRITTEN)
    first, *others = shown.values()
    least = max(MIN_ALTERNATIVE, MIN_SHARE_OF_BEST * first.confidence)
    kept = [first, *(item for item in others if item.confidence >= least)][:limit]
    return Judgement([item.text for item in kept], None, kept)


def judge_item(item: CompletionItem, hole: Hole, min_confidence: float) -> str | Silence:
    """The trimmed text to show, or why there is none."""
    if not item.text.strip():
        return Silence.BLANK
    if item.confidence < min_confidence:
        return Silence.LOW_CONFIDENCE
    head, _, line_before = hole.before.rpartition("\n")
    line_after, _, following = hole.after.partition("\n")
    text = within_scope(_plain(item.text), line_before)
    if not text.strip():
        return Silence.OUT_OF_SCOPE
    if _LICENCE.search(text) and not _LICENCE.search(hole.before + hole.after):
        return Silence.LICENCE_TEXT
    text = cut(text, hole.before, hole.after)
    if not text.strip():
        return Silence.NOTHING_LEFT_AFTER_TRIMMING
    if is_word(hole.before[-1:]) and is_word(hole.after[:1]) and not all(map(is_word, text)):
        return Silence.MID_WORD
    completed = line_before + text + line_after
    if repeats_next_lines(completed, following):
        return Silence.REPEATS_NEXT_LINES
    if repeats_previous_lines(completed, head):
        return Silence.REPEATS_PREVIOUS_LINES
    return text


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
