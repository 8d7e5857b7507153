"""Whether an adapter is kept: better beyond chance on the workspace, and nothing forgotten.

Both states answered the same items, so differences are paired. Exact answers: McNemar's exact test
(1947) of the items that only one of both has right. Similarity: the paired bootstrap's interval of
the mean difference (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fim_training.evaluation.figures import percentage
from fim_training.tuning.measured import HoleResult, Measured

LEVEL = 0.025
"""One-sided level of each of the two tests by which an adapter may be better: 5 % in all."""

WORSE_LEVEL = 0.05
"""One-sided level at which next edits, or exact answers, count as worse."""

MOST_FORGOTTEN = 1.0
"""Points of exact answers to general holes that an adapter may lose."""

RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Figures:
    """One state. Shares in percent: exact answers, mean edit similarity, answers that would be
    shown, right ones of those, next-edit recall, exact answers to general holes."""

    exact: float
    similarity: float
    shown: float
    shown_precision: float
    edit_recall: float
    general_exact: float

    @classmethod
    def of(cls, measured: Measured) -> Figures:
        holes, shown = measured.holes, [hole for hole in measured.holes if hole.shown]
        return cls(
            exact=_exact(holes),
            similarity=round(100 * fmean([h.similarity for h in holes]), 2) if holes else 0.0,
            shown=percentage(len(shown), len(holes)),
            shown_precision=_exact(shown),
            edit_recall=percentage(sum(measured.edits), len(measured.edits)),
            general_exact=_exact(measured.general),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured and decided. p_better: McNemar, one-sided, of exact answers. similarity:
    95 % interval of the mean difference, in points; precision: that of what is shown. why: in one
    sentence."""

    kept: bool
    why: str
    before: Figures
    after: Figures
    holes: int
    general: int
    edits: int
    p_better: float
    similarity: tuple[float, float]
    precision: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def report(before: Measured, after: Measured, seed: int = 0) -> Report:
    """Compare two states on the same items."""
    was, now = Figures.of(before), Figures.of(after)
    exact = _pairs([h.exact for h in before.holes], [h.exact for h in after.holes])
    edits = _pairs(before.edits, after.edits)
    low, high = bootstrap(
        [
            100 * (b.similarity - a.similarity)
            for a, b in zip(before.holes, after.holes, strict=True)
        ],
        seed,
    )
    precision = precision_interval(before.holes, after.holes, seed)
    better = mcnemar(*exact)
    forgotten = was.general_exact - now.general_exact
    kept, why = False, ""
    if not before.general:
        why = "forgetting cannot be measured: this Python has no standard library to read"
    elif forgotten > MOST_FORGOTTEN:
        why = f"it forgets: {forgotten:.1f} points of exact answers in the standard library"
    elif mcnemar(*reversed(edits)) < WORSE_LEVEL:
        why = "next edits get worse beyond chance"
    elif mcnemar(*reversed(exact)) < WORSE_LEVEL or high < 0:
        why = "completions get worse beyond chance"
    elif precision[1] < 0:
        why = "what is shown gets less precise beyond chance"
    elif better < LEVEL:
        kept, why = True, "more exact answers, beyond chance"
    elif low > 0:
        kept, why = True, "more similar answers, beyond chance"
    else:
        why = "no gain beyond chance"
    return Report(
        kept, why, was, now, len(before.holes), len(before.general), len(before.edits),
        round(better, 5), (round(low, 2), round(high, 2)), precision,
    )  # fmt: skip


def mcnemar(gained: int, lost: int) -> float:
    """The probability of so many gains or more among the changes, if both ways are as likely."""
    changed = gained + lost
    return float(sum(comb(changed, k) for k in range(gained, changed + 1)) / 2**changed)


def bootstrap(differences: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % interval of the mean; (0, 0) for none."""
    if not differences:
        return 0.0, 0.0
    values = np.asarray(differences)
    draw = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draw].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def precision_interval(
    before: Sequence[HoleResult], after: Sequence[HoleResult], seed: int
) -> tuple[float, float]:
    """The 95 % interval, in points, of how much more precise what is shown becomes: by the paired
    bootstrap over holes, of which either state shows some. (0, 0) where one shows nothing."""
    was, now = (
        np.array([[hole.shown, hole.shown and hole.exact] for hole in holes], float).reshape(-1, 2)
        for holes in (before, after)
    )
    if not was[:, 0].sum() or not now[:, 0].sum():
        return 0.0, 0.0
    drawn = np.random.default_rng(seed).integers(0, len(was), (RESAMPLES, len(was)))
    first, second = (100 * _precision(state[drawn].sum(axis=1)) for state in (was, now))
    low, high = np.percentile(second - first, [2.5, 97.5])
    return round(float(low), 2), round(float(high), 2)


def _precision(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """sums: `[N, 2]`, of shown ones and right ones."""
    found: NDArray[np.float64] = sums[:, 1] / np.maximum(sums[:, 0], 1)
    return found


def _pairs(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """Items that only the later state has right, and those that only the earlier one has."""
    both = list(zip(before, after, strict=True))
    return sum(b and not a for a, b in both), sum(a and not b for a, b in both)


def _exact(holes: Sequence[HoleResult]) -> float:
    return percentage(sum(hole.exact for hole in holes), len(holes))
