"""Fit a model's confidence to what would have been accepted, and choose what is worth showing.

    python -m fim_model.evaluation.calibrate --data heldout.jsonl.gz --model FOLDER --write

Suggestions for one-line holes are accepted if they are exactly what was there. The regression is
fitted on every other project and judged on the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from fim_model.calibration import Calibration, CopyWeights, copy_features, features
from fim_model.copying import Copied
from fim_model.evaluation.heldout_holes import (
    ONE_LINE_KINDS,
    HeldoutHole,
    Window,
    draw_holes,
    load_documents,
)
from fim_model.evaluation.metrics import percentage, same_text
from fim_model.infill import Infiller, InfillRequest

PRECISION = 0.6
"""Of what is shown unasked, so much is to be right."""

BINS = 10


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
    """Of all suggestions `coverage` % are at least so confident; `precision` % of those right."""

    confidence: float
    coverage: float
    precision: float


def outcomes(infiller: Infiller, hole: HeldoutHole, mode: str) -> list[Outcome]:
    """What the model writes into a hole, and the copy if there is one."""
    shown = hole.hole(Window())
    request = InfillRequest(
        shown.prefix, shown.suffix, shown.path,
        mode=mode, max_tokens=shown.max_tokens, max_lines=shown.max_lines, copied=shown.copied,
    )  # fmt: skip
    return [
        Outcome(
            item.nats,
            item.finish == "length",
            same_text(item.text, hole.answer),
            shown.copied if item.finish == "copied" else None,
        )
        for item in infiller.infill(request).items
    ]


def confidence(calibration: Calibration, one: Outcome) -> float:
    """The probability that the suggestion is right, as the server would tell it."""
    if one.copied is not None:
        return calibration.of_copy(one.nats, one.copied)
    return calibration(one.nats, one.cut)


def likeliest(calibration: Calibration, each: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """Of each hole's suggestions the one that would be shown."""
    return [max(some, key=lambda one: confidence(calibration, one)) for some in each]


def fit(
    written: Sequence[Outcome], copies: Sequence[Outcome] = (), precision: float = PRECISION
) -> Calibration:
    """The regression with the greatest likelihood, slightly drawn to zero, and its threshold.

    The threshold is for the written ones alone. Raises ValueError where all outcomes are alike:
    there is nothing to tell apart.
    """
    bias, weights = _fitted(written, [features(one.nats, one.cut) for one in written])
    mean, total, least, cut = weights
    blind = Calibration(bias, mean, total, least, cut, 0.0, _fit_copies(copies))
    return replace(blind, show_above=threshold(blind, written, precision))


def _fit_copies(copies: Sequence[Outcome]) -> CopyWeights | None:
    if not copies:
        return None
    seen = [copy_features(one.nats, one.copied) for one in copies if one.copied is not None]
    bias, weights = _fitted(copies, seen)
    return CopyWeights(bias, *weights)


def _fitted(
    outcomes: Sequence[Outcome], seen: Sequence[Sequence[float]]
) -> tuple[float, list[float]]:
    """A bias and the weights of the features `seen` of each outcome."""
    accepted = torch.tensor([float(one.accepted) for one in outcomes])
    if not 0 < float(accepted.sum()) < len(outcomes):
        raise ValueError(
            f"{int(accepted.sum())} of {len(outcomes)} suggestions were right: a confidence needs "
            "some of both; ask for more holes, or train the model first"
        )
    rows = torch.tensor(seen)
    centre, spread = rows.mean(0), rows.std(0).clamp_min(1e-3)
    weights = _regress((rows - centre) / spread, accepted)
    slopes = weights[1:] / spread
    return float(weights[0] - (slopes * centre).sum()), slopes.tolist()


def _regress(seen: Tensor, accepted: Tensor, pull: float = 1e-3) -> Tensor:
    """Logistic regression: the bias, then a weight for each column of `seen`."""
    rows = torch.cat((torch.ones(len(seen), 1), seen), dim=1).double()
    weights = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        nats = binary_cross_entropy_with_logits(rows @ weights, accepted.double())
        nats = nats + pull * weights[1:].square().sum()
        nats.backward()
        return nats

    search.step(loss)
    return weights.detach()


def curve(calibration: Calibration, outcomes: Sequence[Outcome]) -> list[CurvePoint]:
    """Precision against coverage, from the surest suggestion to all of them."""
    ranked = sorted(
        ((confidence(calibration, one), one.accepted) for one in outcomes), reverse=True
    )
    right, points = 0, []
    for shown, (sure, accepted) in enumerate(ranked, start=1):
        right += accepted
        precision = percentage(right, shown)
        points.append(CurvePoint(sure, percentage(shown, len(ranked)), precision))
    return points


def threshold(
    calibration: Calibration, outcomes: Sequence[Outcome], precision: float = PRECISION
) -> float:
    """The least confidence such that of all that are as sure the wanted share is right.

    1 where no confidence is enough: then nothing is shown unasked.
    """
    good = [p for p in curve(calibration, outcomes) if p.precision >= 100 * precision]
    return good[-1].confidence if good else 1.0


def calibration_error(calibration: Calibration, outcomes: Sequence[Outcome]) -> float:
    """Expected calibration error (0..1) over ten bins of equal width (Guo et al. 2017)."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for one in outcomes:
        sure = confidence(calibration, one)
        bins[min(int(sure * BINS), BINS - 1)].append((sure, one.accepted))
    gaps = (
        len(bin_) * abs(fmean(c for c, _ in bin_) - fmean(a for _, a in bin_))
        for bin_ in bins
        if bin_
    )
    return sum(gaps) / len(outcomes)


def calibrate(
    infiller: Infiller,
    holes: Sequence[HeldoutHole],
    mode: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Calibration, dict[str, Any]]:
    """The calibration, fitted on every other project, and its figures on the others.

    What counts is what would be shown: the likelier one of what the model writes and of the copy.
    """
    projects = sorted({hole.document.project for hole in holes})
    fitting = set(projects[::2])
    ours: list[list[Outcome]] = []
    others: list[list[Outcome]] = []
    for done, hole in enumerate(holes, start=1):
        side = ours if hole.document.project in fitting else others
        side.append(outcomes(infiller, hole, mode))
        progress(done, len(holes))
    whole = [one for some in ours for one in some]
    calibration = fit(
        [one for one in whole if one.copied is None], [one for one in whole if one.copied]
    )
    threshold_of_all = threshold(calibration, likeliest(calibration, ours))
    calibration = replace(calibration, show_above=threshold_of_all)
    written = [some[0] for some in others]
    chosen = likeliest(calibration, others)
    points = curve(calibration, chosen)
    shown = [point for point in points if point.confidence >= calibration.show_above]
    return calibration, {
        "fitted_on": sorted(fitting),
        "judged_on": [name for name in projects if name not in fitting],
        "n_fitted": len(ours),
        "n_judged": len(others),
        "accepted_written": percentage(sum(one.accepted for one in written), len(written)),
        "accepted": percentage(sum(one.accepted for one in chosen), len(chosen)),
        "copies": percentage(sum(one.copied is not None for one in chosen), len(chosen)),
        "calibration_error": round(calibration_error(calibration, chosen), 4),
        "show_above": round(calibration.show_above, 4),
        "precision_shown": shown[-1].precision if shown else None,
        "coverage_shown": shown[-1].coverage if shown else 0.0,
        "curve": [asdict(points[len(points) * tenth // 20 - 1]) for tenth in range(1, 21)],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; one JSON object on stdout, exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_model.evaluation.calibrate")
    parser.add_argument("--data", type=Path, required=True, help="heldout.jsonl.gz of the corpus")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--mode", default="ar")
    parser.add_argument("--per-kind", type=int, default=300, help="holes of each one-line kind")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn holes")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--write", action="store_true", help="keep it in the checkpoint folder")
    given = parser.parse_args(argv)
    try:
        documents = load_documents(given.data)
        holes = [
            hole
            for kind in ONE_LINE_KINDS
            for hole in draw_holes(documents, kind, given.per_kind, given.seed)
        ]
        infiller = Infiller.load(given.model, threads=given.threads)
        infiller.calibration = None  # an earlier one would leave out what the surest copies hide
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("holes", total=len(holes))
            calibration, figures = calibrate(
                infiller, holes, given.mode, lambda done, _: bar.update(task, completed=done)
            )
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.write:
        calibration.write(given.model)
    sys.stdout.write(json.dumps({"model": str(given.model), "mode": given.mode} | figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
