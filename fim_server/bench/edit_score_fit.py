"""Fits the score of next edits (`edits/rules/score.py`) on replayed commits.

Every candidate at every moment of the replays is one observation: its features, and whether it is
right. A logistic model with weights that all rules share, and for each rule a difference from them
that is drawn to zero, is fitted by Newton's method. Moments with many candidates of one rule count
less than their number, since at most a few are shown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fim_training.evaluation.edit_replay import Judge, Point
from fim_training.evaluation.figures import percentage
from fim_training.examples.hunk_sequences import HunkSequence
from numpy.typing import NDArray

from fim_server.bench.commit_edits import ORDERS, contexts
from fim_server.edits.next_edit import EditContext
from fim_server.edits.rules.drafts import Candidate, applied
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.score import FEATURES
from fim_server.edits.rules.table import candidates

SHARED_PENALTY, OWN_PENALTY = 2.0, 6.0
"""L2 penalties of the shared weights and of a rule's differences; of both biases less."""

_BIAS_PENALTY = 0.1
_STEPS = 25
_CONVERGED = 1e-4

MAX_CROWD = 12
"""Candidates of one rule at one moment that are observed, drawn at random; each counts for more."""

MIN_FIRST_RIGHT, MAX_AFTER_LAST = 78.0, 3.0
"""Percentages: what a threshold must reach in both orders."""

THRESHOLDS = tuple(step / 10 for step in range(31))

Weights = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Observation:
    """A candidate at one moment. moment: project, commit, order, hunks made. coming: whether hunks
    were still to come. worth: how much it counts."""

    rule: str
    features: tuple[float, ...]
    right: bool
    moment: tuple[str, str, str, int]
    coming: bool
    worth: float = 1.0


def observations(
    sequences: Iterable[HunkSequence],
    *,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> list[Observation]:
    """Every candidate in the replays of some commits, in both orders."""
    found: list[Observation] = []
    for sequence in sequences:
        for order in ORDERS:
            shuffled = order == "shuffled"
            for point, context in contexts(sequence, shuffled=shuffled, seed=seed):
                moment = sequence.project, sequence.commit, order, point.done
                found += _observed(point, context, moment)
        progress()
    return found


def _observed(
    point: Point, context: EditContext, moment: tuple[str, str, str, int]
) -> list[Observation]:
    page = context.page()
    if page is None:
        return []
    judge = Judge(point)
    found = []
    rng = Random(f"{moment}")
    by_rule: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates(page):
        by_rule[candidate.rule].append(candidate)
    drawn = [
        (candidate, len(crowd) ** 0.5 / min(len(crowd), MAX_CROWD))
        for crowd in by_rule.values()
        for candidate in rng.sample(crowd, min(len(crowd), MAX_CROWD))
    ]
    for candidate, worth in drawn:
        verdict = judge.verdict(*_lines(page, candidate))
        found.append(
            Observation(
                candidate.rule,
                candidate.features,
                verdict.right,
                moment,
                bool(point.rest),
                worth,
            )
        )
    return found


def _lines(page: Page, candidate: Candidate) -> tuple[int, list[str], list[str]]:
    old = [page.line(at) for at in range(candidate.first, candidate.end)]
    text = applied(old, candidate.first, candidate.edits)
    deleted = not text and all(edit.drops for edit in candidate.edits)
    return candidate.first, old, [] if deleted else text.split("\n")


def fit(found: Sequence[Observation]) -> Weights:
    """The weights of each rule, in the order of FEATURES; the shared ones by the name ""."""
    by_rule: dict[str, list[Observation]] = defaultdict(list)
    for each in found:
        by_rule[each.rule].append(each)
    rules = sorted(by_rule)
    data = [_Cases.of(by_rule[rule]) for rule in rules]
    count = len(FEATURES)
    penalty = np.full((len(rules) + 1, count), OWN_PENALTY)
    penalty[0] = SHARED_PENALTY
    penalty[:, 0] *= _BIAS_PENALTY
    weights = np.zeros_like(penalty)
    for _ in range(_STEPS):
        # A rule's weights are shared + own, so one small matrix a rule gives all of its blocks.
        slope, bend = penalty * weights, np.diag(penalty.ravel())
        for number, cases in enumerate(data, 1):
            likely = 1 / (1 + np.exp(-(cases.values @ (weights[0] + weights[number]))))
            own_slope = cases.values.T @ (cases.worth * (likely - cases.right))
            spread = cases.worth * likely * (1 - likely)
            own_bend = (cases.values * spread[:, None]).T @ cases.values
            slope[0] += own_slope
            slope[number] += own_slope
            own, shared = slice(count * number, count * (number + 1)), slice(0, count)
            for rows in (shared, own):
                for columns in (shared, own):
                    bend[rows, columns] += own_bend
        step = np.linalg.solve(bend, slope.ravel()).reshape(weights.shape)
        weights -= step
        if np.abs(step).max() < _CONVERGED:
            break
    return dict(zip(["", *rules], weights.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class _Cases:
    """The observations of a rule: features `[cases, features]`, and for each case whether it was
    right and how much it counts."""

    values: NDArray[np.float64]
    right: NDArray[np.float64]
    worth: NDArray[np.float64]

    @classmethod
    def of(cls, found: Sequence[Observation]) -> _Cases:
        return cls(
            np.array([each.features for each in found]),
            np.array([each.right for each in found], dtype=float),
            np.array([each.worth for each in found]),
        )


def odds_by(weights: Weights, each: Observation) -> float:
    """The log-odds of a candidate by weights that `fit` returned."""
    shared, own = weights[""], weights.get(each.rule)
    total = sum(weight * value for weight, value in zip(shared, each.features, strict=True))
    if own is not None:
        total += sum(weight * value for weight, value in zip(own, each.features, strict=True))
    return float(total)


def cross_validated(found: Sequence[Observation]) -> list[float]:
    """The log-odds of each candidate by weights fitted on the other half of the projects."""
    names = sorted({each.moment[0] for each in found})
    half = set(names[::2])
    odds = [0.0] * len(found)
    for inside in (True, False):
        weights = fit([each for each in found if (each.moment[0] in half) is not inside])
        for number, each in enumerate(found):
            if (each.moment[0] in half) is inside:
                odds[number] = odds_by(weights, each)
    return odds


def curve(
    found: Sequence[Observation], odds: Sequence[float], points: int, ended: int
) -> list[dict[str, Any]]:
    """The figures that each of THRESHOLDS would give, in each order, where the likeliest candidate
    of a moment is shown. `points` are moments with hunks to come, `ended` those after the last."""
    best: dict[tuple[str, str, str, int], tuple[float, Observation]] = {}
    for value, each in zip(odds, found, strict=True):
        if each.moment not in best or value > best[each.moment][0]:
            best[each.moment] = value, each
    figures = []
    for threshold in THRESHOLDS:
        for order in ORDERS:
            shown = [
                each
                for value, each in best.values()
                if value >= threshold and each.moment[2] == order
            ]
            firsts = [each for each in shown if each.coming]
            figures.append(
                {
                    "threshold": threshold,
                    "order": order,
                    "shown": percentage(len(firsts), points),
                    "first_right": percentage(sum(each.right for each in firsts), len(firsts)),
                    "after_last": percentage(len(shown) - len(firsts), ended),
                }
            )
    return figures


def chosen(figures: Sequence[dict[str, Any]]) -> float | None:
    """The lowest threshold from which on both orders are right and silent often enough."""
    good = [
        threshold
        for threshold in sorted({each["threshold"] for each in figures})
        if all(
            each["first_right"] >= MIN_FIRST_RIGHT and each["after_last"] <= MAX_AFTER_LAST
            for each in figures
            if each["threshold"] == threshold
        )
    ]
    return min(good, default=None)


def reliability(found: Sequence[Observation], odds: Sequence[float]) -> list[dict[str, Any]]:
    """How often candidates of about the same log-odds are right, beside what the odds say."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for value, each in zip(odds, found, strict=True):
        bins.setdefault(round(value), []).append((1 / (1 + exp(-value)), each.right))
    return [
        {
            "odds": value,
            "n": len(inside),
            "expected": percentage(round(sum(likely for likely, _ in inside)), len(inside)),
            "right": percentage(sum(right for _, right in inside), len(inside)),
        }
        for value, inside in sorted(bins.items())
        if -4 <= value <= 4
    ]


def write(weights: Weights, path: Path, fitted_on: Mapping[str, Any]) -> None:
    """Write weights, and what they were fitted on, where `score.py` reads them."""

    def named(values: Sequence[float]) -> dict[str, float]:
        rounded = {name: round(value, 3) for name, value in zip(FEATURES, values, strict=True)}
        return {name: value for name, value in rounded.items() if value}

    rules = {rule: named(values) for rule, values in weights.items() if rule}
    record = {"fitted_on": fitted_on, "shared": named(weights[""]), "rules": rules}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
