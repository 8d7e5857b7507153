"""Figures that evaluations share: costs, percentages, similarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from fim_training.evaluation.filler import Fill


@dataclass(frozen=True, slots=True)
class Cost:
    """What a set of fills cost.

    `tokens_per_forward` is all committed tokens (end-of-middle included) over all forwards
    (prefill, draft and verify included), not a mean of ratios. `p50_ms` and `p95_ms` interpolate
    linearly.
    """

    forwards_per_task: float
    tokens_per_forward: float
    p50_ms: float
    p95_ms: float


def cost_of(fills: Sequence[Fill]) -> Cost:
    """Summarise the cost of `fills`; all zero for none."""
    forwards = sum(fill.forwards for fill in fills)
    tokens = sum(fill.tokens for fill in fills)
    times = [fill.ms for fill in fills]
    return Cost(
        forwards_per_task=round(forwards / len(fills), 2) if fills else 0.0,
        tokens_per_forward=round(tokens / forwards, 3) if forwards else 0.0,
        p50_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The linearly interpolated percentile, rounded to 0.01; 0.0 for no values."""
    return round(float(np.percentile(values, percent)), 2) if values else 0.0


def percentage(hits: int, total: int) -> float:
    """`hits` of `total` as 0..100, rounded to 0.01; 0.0 of nothing."""
    return round(100.0 * hits / total, 2) if total else 0.0


def same_text(text: str, answer: str) -> bool:
    """Whether the texts are equal up to white space at the end."""
    return text.rstrip() == answer.rstrip()


def edit_similarity(text: str, answer: str) -> float:
    """0..1: difflib's ratio 2M / T over characters, trailing white space ignored."""
    return SequenceMatcher(None, text.rstrip(), answer.rstrip(), autojunk=False).ratio()
