"""What keeps an adapter: gains beyond chance, and nothing forgotten."""

from __future__ import annotations

from random import Random
from statistics import fmean

import pytest
from fim_training.tuning.measured import HoleResult, Measured
from fim_training.tuning.verdict import bootstrap, mcnemar, report


def holes(right: int, count: int, similarity: float = 0.5) -> list[HoleResult]:
    return [HoleResult(i < right, similarity, True) for i in range(count)]


def measured(right: int, general: int = 50, edits: int = 5, similarity: float = 0.5) -> Measured:
    return Measured(
        holes(right, 200, similarity), holes(general, 100), [i < edits for i in range(20)]
    )


@pytest.mark.parametrize(
    ("after", "kept", "why"),
    [
        (measured(60), True, "more exact"),
        (measured(52), False, "no gain beyond chance"),
        (measured(50, similarity=0.6), True, "more similar"),
        (measured(30, similarity=0.6), False, "completions get worse"),
        (measured(60, similarity=0.3), False, "completions get worse"),
        (measured(60, general=49), True, "more exact"),
        (measured(60, general=48), False, "it forgets: 2.0 points"),
        (measured(60, edits=0), False, "next edits get worse"),
        (measured(60, edits=4), True, "more exact"),
    ],
)
def test_the_rule(after: Measured, kept: bool, why: str) -> None:
    found = report(measured(50), after)
    assert found.kept is kept
    assert found.why.startswith(why)


def test_what_is_shown_must_not_get_less_precise() -> None:
    """The same answers get better, but wrong ones are shown that were not before."""

    def state(right: int, shown: int) -> Measured:
        return Measured(
            [HoleResult(i < right, 0.5, i < shown) for i in range(200)], holes(50, 100), []
        )

    assert report(state(50, 60), state(60, 70)).kept
    worse = report(state(50, 60), state(60, 120))
    assert worse.after.shown_precision == 50.0
    assert worse.precision[1] < 0
    assert (worse.kept, worse.why) == (False, "what is shown gets less precise beyond chance")
    assert report(state(50, 0), state(60, 70)).precision == (0.0, 0.0)


def test_nothing_is_kept_unless_forgetting_was_measured() -> None:
    before = Measured(holes(50, 200), [], [])
    assert not report(before, Measured(holes(90, 200), [], [])).kept


def test_mcnemar_is_the_binomial_tail() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(1 / 32)
    assert mcnemar(8, 2) == pytest.approx((45 + 10 + 1) / 1024)
    assert mcnemar(2, 8) == pytest.approx(1 - (1 + 10) / 1024)


def test_a_model_that_only_differs_by_chance_is_rarely_kept() -> None:
    """Two tests at 2.5 % each: about one in twenty."""
    rng, kept = Random(0), 0
    for _ in range(200):
        states = []
        for _ in range(2):
            drawn = [
                HoleResult(rng.random() < 0.4, rng.random(), rng.random() < 0.5) for _ in range(120)
            ]
            states.append(Measured(drawn, holes(50, 100), []))
        kept += report(*states).kept
    assert kept <= 20


def test_the_interval_covers_the_mean() -> None:
    rng = Random(1)
    differences = [rng.gauss(1.0, 2.0) for _ in range(300)]
    low, high = bootstrap(differences, 0)
    assert low < fmean(differences) < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / 300**0.5, rel=0.15)
    assert bootstrap([], 0) == (0.0, 0.0)
