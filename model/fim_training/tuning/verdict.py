"""Whether an adapter is kept: better than the model alone beyond chance on the workspace, nothing
forgotten, and not worse beyond chance than an adapter that is in use.

Both states answered the same items, so differences are paired. Exact answers: McNemar's exact test
(1947) of the items that only one of both has right. Similarity: the paired bootstrap's interval of
the mean difference (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
"""One-sided level at which next edits, exact answers, or right answers shown count as worse."""

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
    sentence. earlier: of the adapter in use, None where it was not measured: there is none, or the
    new one is not kept anyway."""

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
    earlier: Figures | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two states on the same items. exact, shown, edits: (gained, lost) exact answers, right
    answers that are shown, and next edits. similarity, precision: 95 % intervals of the gain, in
    points."""

    exact: tuple[int, int]
    shown: tuple[int, int]
    edits: tuple[int, int]
    similarity: tuple[float, float]
    precision: tuple[float, float]

    @classmethod
    def of(cls, before: Measured, after: Measured, seed: int) -> Comparison:
        was, now = before.holes, after.holes
        gains = [100 * (b.similarity - a.similarity) for a, b in zip(was, now, strict=True)]
        return cls(
            _pairs([h.exact for h in was], [h.exact for h in now]),
            _pairs([h.shown and h.exact for h in was], [h.shown and h.exact for h in now]),
            _pairs(before.edits, after.edits),
            bootstrap(gains, seed),
            precision_interval(was, now, seed),
        )

    @property
    def p_better(self) -> float:
        return mcnemar(*self.exact)

    @property
    def better(self) -> str:
        """What gains beyond chance, "" for nothing."""
        if self.p_better < LEVEL:
            return "more exact answers, beyond chance"
        return "more similar answers, beyond chance" if self.similarity[0] > 0 else ""

    @property
    def worse(self) -> str:
        """What gets worse beyond chance, "" for nothing."""
        if _is_loss(self.edits):
            return "next edits get worse beyond chance"
        if _is_loss(self.exact) or self.similarity[1] < 0:
            return "completions get worse beyond chance"
        if self.precision[1] < 0:
            return "what is shown gets less precise beyond chance"
        # Precision alone says nothing against a state that shows nothing.
        return "fewer right answers are shown, beyond chance" if _is_loss(self.shown) else ""


def report(before: Measured, after: Measured, seed: int = 0) -> Report:
    """Compare the model alone with an adapter on the same items."""
    found = Comparison.of(before, after, seed)
    against = _forgotten(before.general, after.general) or found.worse
    low, high = found.similarity
    return Report(
        kept=not against and bool(found.better),
        why=against or found.better or "no gain beyond chance",
        before=Figures.of(before),
        after=Figures.of(after),
        holes=len(before.holes),
        general=len(before.general),
        edits=len(before.edits),
        p_better=round(found.p_better, 5),
        similarity=(round(low, 2), round(high, 2)),
        precision=found.precision,
    )


def against_earlier(found: Report, earlier: Measured, after: Measured, seed: int = 0) -> Report:
    """The report of an adapter that would be kept, compared with the one in use as well."""
    worse = Comparison.of(earlier, after, seed).worse
    why = f"compared with the adapter in use, {worse}" if worse else f"{found.why}; {NOT_WORSE}"
    return replace(found, earlier=Figures.of(earlier), kept=found.kept and not worse, why=why)


NOT_WORSE = "not worse than the adapter that was in use"


def _forgotten(before: Sequence[HoleResult], after: Sequence[HoleResult]) -> str:
    """Why general answers forbid the adapter, "" if they do not."""
    if not before:
        return "forgetting cannot be measured: this Python has no standard library to read"
    lost = sum(hole.exact for hole in before) - sum(hole.exact for hole in after)
    # Counts, because a difference of rounded shares can exceed the limit that it equals.
    if 100 * lost <= MOST_FORGOTTEN * len(before):
        return ""
    points = 100 * lost / len(before)
    return f"it forgets: {points:.1f} points of exact answers in the standard library"


def _is_loss(pairs: tuple[int, int]) -> bool:
    """Whether more was lost than gained, beyond chance."""
    gained, lost = pairs
    return mcnemar(lost, gained) < WORSE_LEVEL


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
