"""Calibrate a model's confidence on held-out holes, and choose the threshold for showing.

Suggestions for one-line holes are accepted if they are exactly what was there. Each project is
judged by a regression, and a threshold, that the others gave; what is kept is fitted on all. The
command is `fim-server eval gate`, which also fits what a front-end knows (`bench/gate_fit.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, TypeVar

import torch
from fim_model.calibration.confidence import Calibration, CopyWeights, copy_features, features
from fim_model.copies import Copied
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from fim_training.evaluation.figures import percentage, same_text
from fim_training.evaluation.heldout_answers import Answers

PRECISION = 0.6
"""Target precision of suggestions that are shown automatically."""

BINS = 10

MAX_STEPS = 100
CONVERGED = 1e-9
"""Of a regression: most steps, and the largest change of a weight that ends it."""

UNDECIDED = Calibration(0, 0, 0, 0, 0, 0, CopyWeights(0, 0, 0, 0, 0, 0, 0, 0, 0))
"""Used while outcomes are collected: copies are scored, but the scores decide nothing."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One suggestion: its tokens' log-probabilities, whether it was cut, whether it was right.

    copied: where it was copied from, None for what the model wrote.
    """

    nats: tuple[float, ...]
    cut: bool
    accepted: bool
    copied: Copied | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """`coverage` % of suggestions reach this confidence; `precision` % of those are right."""

    confidence: float
    coverage: float
    precision: float


def outcomes(answers: Answers, answer: str) -> list[Outcome]:
    """The model's likeliest text for a hole and the judged copies; `answer` is what was there."""
    return [
        Outcome(given.nats, given.cut, same_text(given.text, answer), given.copied)
        for given in (answers.written[0], *answers.copies)
    ]


@dataclass(frozen=True, slots=True)
class Judged:
    """The suggestion shown in a hole: its confidence, and whether it is right."""

    confidence: float
    accepted: bool
    copied: bool = False


def judged(calibration: Calibration, each: Sequence[Sequence[Outcome]]) -> list[Judged]:
    """The most confident suggestion of each hole, which the server would show."""
    return [
        max((_judge(calibration, outcome) for outcome in some), key=_confidence) for some in each
    ]


def _judge(calibration: Calibration, outcome: Outcome) -> Judged:
    if outcome.copied is not None:
        confidence = calibration.of_copy(outcome.nats, outcome.copied)
        return Judged(confidence, outcome.accepted, True)
    return Judged(calibration(outcome.nats, outcome.cut), outcome.accepted)


def _confidence(suggestion: Judged) -> float:
    return suggestion.confidence


def fit(each: Sequence[Sequence[Outcome]]) -> Calibration:
    """Maximum-likelihood regressions with a slight L2 penalty; the threshold is 0.

    each: the suggestions of each hole. Raises ValueError where all suggestions of a
    kind have the same outcome.
    """
    written = [outcome for some in each for outcome in some if outcome.copied is None]
    copies = [outcome for some in each for outcome in some if outcome.copied is not None]
    bias, weights = _fitted(written, [features(text.nats, text.cut) for text in written])
    mean, total, least, cut = weights
    return Calibration(bias, mean, total, least, cut, 0.0, _fit_copies(copies))


def _fit_copies(copies: Sequence[Outcome]) -> CopyWeights | None:
    if not copies:
        return None
    seen = [copy_features(copy.nats, copy.copied) for copy in copies if copy.copied is not None]
    bias, weights = _fitted(copies, seen)
    return CopyWeights(bias, *weights)


def _fitted(
    outcomes: Sequence[Outcome], seen: Sequence[Sequence[float]]
) -> tuple[float, list[float]]:
    """A bias and the weights of the features `seen` of each outcome."""
    return regression([outcome.accepted for outcome in outcomes], seen)


def regression(right: Sequence[bool], seen: Sequence[Sequence[float]]) -> tuple[float, list[float]]:
    """Logistic regression of `right` on the features `seen`: the bias, and a weight for each.

    A slight L2 penalty on the standardized features. Raises ValueError where all are the same.
    """
    accepted = torch.tensor([float(each) for each in right])
    if not 0 < float(accepted.sum()) < len(right):
        raise ValueError(
            f"{int(accepted.sum())} of {len(right)} suggestions were right: a confidence needs "
            "some of both; ask for more holes, or train the model first"
        )
    rows = torch.tensor(seen)
    centre, spread = rows.mean(0), rows.std(0).clamp_min(1e-3)
    weights = _regress((rows - centre) / spread, accepted)
    slopes = weights[1:] / spread
    return float(weights[0] - (slopes * centre).sum()), slopes.tolist()


def _regress(seen: Tensor, accepted: Tensor, pull: float = 1e-3) -> Tensor:
    """Logistic regression: the bias, then a weight for each column of `seen`.

    Newton's method; a step that does not lower the loss is halved.
    """
    rows = torch.cat((torch.ones(len(seen), 1), seen), dim=1).double()
    penalty = torch.full((rows.shape[1],), pull, dtype=torch.float64)
    penalty[0] = 0.0
    right = accepted.double()

    def loss(weights: Tensor) -> float:
        nats = binary_cross_entropy_with_logits(rows @ weights, right)
        return float(nats + (penalty * weights.square()).sum())

    weights = torch.zeros_like(penalty)
    for _ in range(MAX_STEPS):
        likely = torch.sigmoid(rows @ weights)
        slope = rows.T @ (likely - right) / len(rows) + 2 * penalty * weights
        spread = (likely * (1 - likely))[:, None]
        bend = rows.T @ (rows * spread) / len(rows) + torch.diag(2 * penalty)
        step = torch.linalg.solve(bend, slope)
        before = loss(weights)
        while loss(weights - step) > before and float(step.abs().max()) > CONVERGED:
            step = step / 2
        weights = weights - step
        if float(step.abs().max()) <= CONVERGED:
            break
    return weights


def curve(shown: Sequence[Judged]) -> list[CurvePoint]:
    """Precision against coverage, from the most confident suggestion to all of them."""
    right, points = 0, []
    for count, suggestion in enumerate(sorted(shown, key=_confidence, reverse=True), start=1):
        right += suggestion.accepted
        coverage, precision = percentage(count, len(shown)), percentage(right, count)
        points.append(CurvePoint(suggestion.confidence, coverage, precision))
    return points


def threshold(shown: Sequence[Judged], precision: float = PRECISION) -> float:
    """The lowest threshold at which the suggestions shown have the wanted precision.

    1 where there is none: then nothing is shown automatically.
    """
    good = [point for point in curve(shown) if point.precision >= 100 * precision]
    return good[-1].confidence if good else 1.0


def calibration_error(shown: Sequence[Judged]) -> float:
    """Expected calibration error (0..1) over ten bins of equal width (Guo et al. 2017)."""
    bins: list[list[Judged]] = [[] for _ in range(BINS)]
    for suggestion in shown:
        bins[min(int(suggestion.confidence * BINS), BINS - 1)].append(suggestion)
    gaps = (
        len(found) * abs(fmean(s.confidence for s in found) - fmean(s.accepted for s in found))
        for found in bins
        if found
    )
    return sum(gaps) / len(shown)


Projects = Mapping[str, Sequence[Sequence[Outcome]]]
"""The suggestions of each hole, by project."""


def out_of_fold(projects: Projects) -> dict[str, list[Judged]]:
    """Each project scored by a calibration fitted on the others. ValueError for one project."""
    if len(projects) < 2:
        raise ValueError("a calibration needs holes of at least two projects; give more documents")
    return {name: judged(fit(_of_others(projects, name)), own) for name, own in projects.items()}


def _of_others(projects: Mapping[str, Sequence[T]], name: str) -> list[T]:
    return [item for other, items in projects.items() if other != name for item in items]


def calibrate(projects: Projects) -> tuple[Calibration, dict[str, Any]]:
    """The calibration, fitted on all projects, and what it is worth on projects it never saw."""
    found = out_of_fold(projects)
    everything = [suggestion for own in found.values() for suggestion in own]
    points = curve(everything)
    unasked = [
        suggestion
        for name, own in found.items()
        for least in [threshold(_of_others(found, name))]
        for suggestion in own
        if suggestion.confidence >= least
    ]
    written = [some[0] for each in projects.values() for some in each]
    calibration = replace(
        fit([some for each in projects.values() for some in each]), show_above=threshold(everything)
    )
    return calibration, {
        "projects": sorted(projects),
        "n": len(everything),
        "accepted_written": percentage(sum(outcome.accepted for outcome in written), len(written)),
        "accepted": percentage(sum(shown.accepted for shown in everything), len(everything)),
        "copies": percentage(sum(shown.copied for shown in everything), len(everything)),
        "calibration_error": round(calibration_error(everything), 4),
        "show_above": round(calibration.show_above, 4),
        "precision_shown": percentage(sum(shown.accepted for shown in unasked), len(unasked)),
        "coverage_shown": percentage(len(unasked), len(everything)),
        "curve": [asdict(points[len(points) * tenth // 20 - 1]) for tenth in range(1, 21)],
    }
