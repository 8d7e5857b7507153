"""What keeps an adapter: gains beyond chance, and nothing forgotten."""

from __future__ import annotations

from random import Random
from statistics import fmean

import pytest
from fim_training.tuning.measured import HoleResult, Measured
from fim_training.tuning.verdict import against_earlier, bootstrap, mcnemar, report


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


def state(right: int, shown: int) -> Measured:
    """Of 200 answers the first are right, and the first are shown."""
    return Measured([HoleResult(i < right, 0.5, i < shown) for i in range(200)], holes(50, 100), [])


def test_what_is_shown_must_not_get_less_precise() -> None:
    """The same answers get better, but wrong ones are shown that were not before."""
    assert report(state(50, 60), state(60, 70)).kept
    worse = report(state(50, 60), state(60, 120))
    assert worse.after.shown_precision == 50.0
    assert worse.precision[1] < 0
    assert (worse.kept, worse.why) == (False, "what is shown gets less precise beyond chance")
    assert report(state(50, 0), state(60, 70)).precision == (0.0, 0.0)


@pytest.mark.parametrize("shown", [0, 40])
def test_an_adapter_that_silences_completions_is_not_kept(shown: int) -> None:
    """More answers are right, and what is shown is as precise, but less of it is shown."""
    found = report(state(50, 50), state(60, shown))
    assert found.precision[1] >= 0
    assert (found.kept, found.why) == (False, "fewer right answers are shown, beyond chance")
    assert report(state(50, 50), state(60, 48)).kept


@pytest.mark.parametrize(("count", "lost", "kept"), [(300, 3, True), (300, 4, False)])
def test_a_point_may_be_forgotten_and_no_more(count: int, lost: int, kept: bool) -> None:
    """Of rounded shares, 16.67 - 15.67 is above 1."""
    before = Measured(holes(50, 200), holes(50, count), [])
    after = Measured(holes(60, 200), holes(50 - lost, count), [])
    assert report(before, after).kept is kept


def test_an_adapter_in_use_is_replaced_only_by_one_that_is_not_worse() -> None:
    base, earlier = measured(50), measured(70)
    worse = against_earlier(report(base, measured(58)), earlier, measured(58))
    assert report(base, measured(58)).kept, "against the model alone"
    assert not worse.kept
    assert worse.why == "compared with the adapter in use, completions get worse beyond chance"
    assert worse.earlier is not None
    assert (worse.before.exact, worse.after.exact, worse.earlier.exact) == (25.0, 29.0, 35.0)
    for right in (69, 75):
        as_good = against_earlier(report(base, measured(right)), earlier, measured(right))
        assert as_good.kept
        assert as_good.why.endswith("beyond chance; not worse than the adapter that was in use")


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
