"""What a model's judgement of rules' drafts adds to their score, measured on replayed commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from fim_training.evaluation.edit_replay import Judge
from fim_training.examples.hunk_sequences import HunkSequence

from fim_server.bench.commit_edits import ORDERS, contexts
from fim_server.edits.history import past_edits
from fim_server.edits.next_edit import MAX_EDITS, MAX_TRIES, Ask, rewritten

MIN_ODDS = -2.0
"""Drafts that are less likely before the model judges them are left out."""

MAX_GAIN = 40.0
"""Gains are cut off at this many nats."""

MIN_OWN, MIN_OWN_RIGHT = 20, 0.75
"""How many of the model's own texts, and which share of right ones, it takes to show such."""

SILENT = -100.0
"""The prior of what the model writes itself, where that is too often wrong at every gain."""

_STEPS = 50


@dataclass(frozen=True, slots=True)
class JudgedDraft:
    """odds: before the model; None for what it wrote itself. gain: in nats."""

    odds: float | None
    gain: float
    right: bool


async def judged(
    sequences: Iterable[HunkSequence],
    ask: Ask,
    *,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> list[JudgedDraft]:
    """The likeliest drafts at every moment of the replays, and what the model wrote there."""
    found: list[JudgedDraft] = []
    for sequence in sequences:
        for order in ORDERS:
            shuffled = order == "shuffled"
            for point, context in contexts(sequence, shuffled=shuffled, seed=seed):
                edits = past_edits(context.hunks, MAX_EDITS)
                judge = Judge(point)
                where = [each for each in context.regions() if each.score >= MIN_ODDS]
                for region in where[:MAX_TRIES]:
                    for text in await rewritten(context, region, edits, ask):
                        if text.is_refilled or (text.odds or 0.0) < MIN_ODDS:
                            continue
                        verdict = judge.verdict(text.first, text.old, text.new)
                        gain = max(-MAX_GAIN, min(text.gain, MAX_GAIN))
                        found.append(JudgedDraft(text.odds, gain, verdict.right))
        progress()
    return found


def weight_of(found: Sequence[JudgedDraft], min_gain: float) -> dict[str, Any]:
    """The weight of a nat of gain that explains best which drafts are right, given their odds, and
    the log loss with and without it; how often the gain and the odds rank a right one higher (the
    area under the ROC curve); and how many of the model's own texts are right, with the prior that
    lifts those to `min_gain` among which MIN_OWN_RIGHT are."""
    drafts = [(each.odds, each.gain, each.right) for each in found if each.odds is not None]
    own = [each for each in found if each.odds is None]
    weight = bias = 0.0
    for _ in range(_STEPS):  # Newton's method for a logistic model with the odds as offset
        slope_w = slope_b = bend_ww = bend_wb = bend_bb = 1e-9
        for odds, gain, right in drafts:
            likely = _sigmoid(odds + bias + weight * gain)
            spread = likely * (1 - likely)
            slope_w += (right - likely) * gain
            slope_b += right - likely
            bend_ww += spread * gain * gain
            bend_wb += spread * gain
            bend_bb += spread
        size = bend_ww * bend_bb - bend_wb * bend_wb
        if size <= 0:
            break
        step_w = (slope_w * bend_bb - slope_b * bend_wb) / size
        step_b = (slope_b * bend_ww - slope_w * bend_wb) / size
        weight, bias = weight + step_w, bias + step_b
        if abs(step_w) + abs(step_b) < 1e-6:
            break
    return {
        "drafts": len(drafts),
        "right": sum(right for _, _, right in drafts),
        "draft_weight": round(max(weight, 0.0), 4),
        "bias": round(bias, 3),
        "loss_without": _loss([(odds, right) for odds, _, right in drafts]),
        "loss_with": _loss([(odds + bias + weight * gain, right) for odds, gain, right in drafts]),
        "auc_odds": _separation([(odds, right) for odds, _, right in drafts]),
        "auc_gain": _separation([(gain, right) for _, gain, right in drafts]),
        "own": len(own),
        "own_right": sum(each.right for each in own),
        "auc_own": _separation([(each.gain, each.right) for each in own]),
        "own_prior": _own_prior([(each.gain, each.right) for each in own], min_gain),
    }


def _own_prior(values: Sequence[tuple[float, bool]], min_gain: float) -> float:
    """The prior that shows texts above the lowest gain from which on enough of them are right; if
    none is such, one that shows none."""
    lowest = None
    ranked = sorted(values, reverse=True)
    right = 0
    for count, (gain, is_right) in enumerate(ranked, 1):
        right += is_right
        if count >= MIN_OWN and right >= MIN_OWN_RIGHT * count:
            lowest = gain
    return SILENT if lowest is None else round(min_gain - lowest, 2)


def _loss(values: Sequence[tuple[float, bool]]) -> float | None:
    """The mean negative log-likelihood, in nats."""
    if not values:
        return None
    total = sum(-log(max(_sigmoid(odds if right else -odds), 1e-12)) for odds, right in values)
    return round(total / len(values), 4)


def _separation(values: Sequence[tuple[float, bool]]) -> float | None:
    """The area under the ROC curve; None without both right and wrong ones."""
    good = sorted(value for value, right in values if right)
    bad = sorted(value for value, right in values if not right)
    if not good or not bad:
        return None
    above = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
    return round(above / len(good) / len(bad), 3)


def _sigmoid(odds: float) -> float:
    return 1 / (1 + exp(-max(-50.0, min(odds, 50.0))))
