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

PENALTIES = ((2.0, 6.0), (4.0, 15.0), (8.0, 15.0), (8.0, 40.0), (20.0, 40.0))
"""L2 penalties to choose from, of the shared weights and of a rule's differences; of both biases
less."""

FOLDS = 5
"""Parts of the histories, each scored by weights that were fitted on the others."""

_BIAS_PENALTY = 0.1
_STEPS = 25
_CONVERGED = 1e-4

MAX_CROWD = 12
"""Candidates of one rule at one moment that are observed, drawn at random; each counts for more."""

MIN_FIRST_RIGHT, MAX_AFTER_LAST = {"in order": 75.0, "shuffled": 70.0}, 3.0
"""Percentages: what a threshold must reach, by order."""

DRAWS, SURE = 400, 0.9
"""Sets of as many histories, drawn with replacement, and the share of them in which a threshold
must reach that: the histories of a user are other ones."""

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
        verdict = judge.verdict(*changed_lines(page, candidate))
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


def changed_lines(page: Page, candidate: Candidate) -> tuple[int, list[str], list[str]]:
    """The number of the first line that a candidate changes, its lines, and what they become."""
    old = [page.line(at) for at in range(candidate.first, candidate.end)]
    text = applied(old, candidate.first, candidate.edits)
    deleted = not text and all(edit.drops for edit in candidate.edits)
    return candidate.first, old, [] if deleted else text.split("\n")


def fit(found: Sequence[Observation], penalties: tuple[float, float] = PENALTIES[1]) -> Weights:
    """The weights of each rule, in the order of FEATURES; the shared ones by the name ""."""
    shared_penalty, own_penalty = penalties
    by_rule: dict[str, list[Observation]] = defaultdict(list)
    for each in found:
        by_rule[each.rule].append(each)
    rules = sorted(by_rule)
    data = [_Cases.of(by_rule[rule]) for rule in rules]
    count = len(FEATURES)
    penalty = np.full((len(rules) + 1, count), own_penalty)
    penalty[0] = shared_penalty
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


def cross_validated(
    found: Sequence[Observation], penalties: tuple[float, float] = PENALTIES[1]
) -> list[float]:
    """The log-odds of each candidate by weights that were fitted without its history."""
    names = sorted({each.moment[0] for each in found})
    odds = [0.0] * len(found)
    for number in range(min(FOLDS, len(names))):
        out = set(names[number::FOLDS])
        weights = fit([each for each in found if each.moment[0] not in out], penalties)
        for at, each in enumerate(found):
            if each.moment[0] in out:
                odds[at] = odds_by(weights, each)
    return odds


def best_penalties(
    found: Sequence[Observation], progress: Callable[[], None] = lambda: None
) -> tuple[tuple[float, float], list[float], list[dict[str, Any]]]:
    """The PENALTIES whose cross-validated log-odds have the least loss, those log-odds, and the
    loss of each (mean negative log-likelihood, nats)."""
    tried = []
    for penalties in PENALTIES:
        odds = cross_validated(found, penalties)
        tried.append((_loss(found, odds), penalties, odds))
        progress()
    _, best, odds = min(tried)
    losses = [
        {"shared": shared, "own": own, "loss": round(loss, 4)} for loss, (shared, own), _ in tried
    ]
    return best, odds, losses


def _loss(found: Sequence[Observation], odds: Sequence[float]) -> float:
    signs = np.where([each.right for each in found], -1.0, 1.0)
    worth = np.array([each.worth for each in found])
    return float(np.average(np.logaddexp(0.0, signs * np.array(odds)), weights=worth))


def curve(
    found: Sequence[Observation], odds: Sequence[float], points: int, ended: int
) -> list[dict[str, Any]]:
    """The figures that each of THRESHOLDS would give, in each order, where the likeliest candidate
    of a moment is shown. `points` are moments with hunks to come, `ended` those after the last."""
    best = _likeliest(found, odds)
    figures = []
    for threshold in THRESHOLDS:
        for order in ORDERS:
            shown = [each for value, each in best if value >= threshold and each.moment[2] == order]
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


def _likeliest(
    found: Sequence[Observation], odds: Sequence[float]
) -> list[tuple[float, Observation]]:
    """The likeliest candidate of each moment, with its log-odds."""
    best: dict[tuple[str, str, str, int], tuple[float, Observation]] = {}
    for value, each in zip(odds, found, strict=True):
        if each.moment not in best or value > best[each.moment][0]:
            best[each.moment] = value, each
    return list(best.values())


def chosen(
    found: Sequence[Observation],
    odds: Sequence[float],
    ended: Mapping[str, int],
    seed: int = 0,
) -> float | None:
    """The lowest of THRESHOLDS that is right and silent often enough in SURE of DRAWS draws of the
    histories, in each order. `ended` are the moments after the last hunk, by history."""
    names = sorted(ended)
    draws = np.random.default_rng(seed).integers(len(names), size=(DRAWS, len(names)))
    over = np.array([ended[name] for name in names])[draws].sum(axis=1)
    best = _likeliest(found, odds)
    for threshold in THRESHOLDS:
        shown = [each for value, each in best if value >= threshold]
        if all(
            _suffices(_counts(shown, order, names)[draws].sum(axis=1), over, order)
            for order in ORDERS
        ):
            return threshold
    return None


def _counts(shown: Sequence[Observation], order: str, names: Sequence[str]) -> NDArray[np.float64]:
    """By history `[names, 3]`: first proposals with hunks to come, those that are right, and
    those after the last hunk."""
    counts = np.zeros((len(names), 3))
    rows = {name: number for number, name in enumerate(names)}
    for each in shown:
        if each.moment[2] == order:
            row = counts[rows[each.moment[0]]]
            row += (each.coming, each.coming and each.right, not each.coming)
    return counts


def _suffices(counts: NDArray[np.float64], over: NDArray[np.int64], order: str) -> bool:
    first, right, after = counts.T
    good = (100 * right >= MIN_FIRST_RIGHT[order] * first) & (100 * after <= MAX_AFTER_LAST * over)
    return bool(good.mean() >= SURE)


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
