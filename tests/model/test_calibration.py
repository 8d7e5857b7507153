"""A suggestion's confidence: the regression, its threshold, its error, and the file it lives in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import pytest
from fim_model.calibration import CALIBRATION, Calibration, features
from fim_model.errors import CheckpointError
from fim_model.evaluation.calibrate import (
    Outcome,
    calibration_error,
    curve,
    fit,
    threshold,
)

PLAIN = Calibration(bias=0.0, mean=1.0, total=0.0, least=0.0, cut=0.0, show_above=0.5)


def outcomes(count: int, seed: int) -> list[Outcome]:
    """Suggestions that are right with probability `sigmoid(1 + 2 * mean + 0.5 * sum)`, if whole."""
    rng, drawn = Random(seed), []
    for _ in range(count):
        nats = tuple(-rng.expovariate(2) for _ in range(rng.randint(1, 8)))
        cut = rng.random() < 0.2
        odds = 1 + 2 * sum(nats) / len(nats) + 0.5 * sum(nats) - 3 * cut
        drawn.append(Outcome(nats, cut, rng.random() < 1 / (1 + math.exp(-odds))))
    return drawn


def test_features_are_mean_sum_least_and_cut() -> None:
    assert features([-1.0, -3.0, -0.5], cut=True) == (-1.5, -4.5, -3.0, 1.0)


def test_the_regression_finds_the_odds_that_were_there() -> None:
    """On new draws its probabilities are the true ones, to a few hundredths."""
    found = fit(outcomes(4000, seed=0))
    for one in outcomes(300, seed=1):
        odds = 1 + 2 * sum(one.nats) / len(one.nats) + 0.5 * sum(one.nats) - 3 * one.cut
        assert found(one.nats, one.cut) == pytest.approx(1 / (1 + math.exp(-odds)), abs=0.08)


def test_the_regression_is_calibrated_where_the_probabilities_were_not() -> None:
    new = outcomes(3000, seed=2)
    assert calibration_error(fit(outcomes(4000, seed=0)), new) < 0.05
    assert calibration_error(PLAIN, new) > 0.1


def test_the_calibration_error_is_its_definition() -> None:
    """Confidences 0.5 and sigmoid(-4): two bins of two and one, each as far off as counted."""
    sure, unsure = Outcome((0.0,), False, True), Outcome((0.0,), False, False)
    low = Outcome((-4.0,), False, True)
    far = 1 - 1 / (1 + math.exp(4))
    assert calibration_error(PLAIN, [sure, unsure]) == 0
    assert calibration_error(PLAIN, [sure, sure, low]) == pytest.approx((2 * 0.5 + far) / 3)


def test_the_curve_goes_from_the_surest_to_all() -> None:
    drawn = [Outcome((-float(i),), False, i < 2) for i in range(4)]
    points = curve(PLAIN, drawn)
    assert [point.coverage for point in points] == [25, 50, 75, 100]
    assert [point.precision for point in points] == [100, 100, pytest.approx(66.67), 50]
    assert points == sorted(points, key=lambda point: -point.confidence)


def test_the_threshold_shows_as_many_as_precision_allows() -> None:
    drawn = [Outcome((-float(i),), False, i < 2) for i in range(4)]
    for precision, shown in ((0.9, 2), (0.6, 3), (0.5, 4)):
        least = threshold(PLAIN, drawn, precision)
        assert sum(PLAIN(one.nats, one.cut) >= least for one in drawn) == shown
    wrong = [Outcome((-1.0,), False, False)]
    assert threshold(PLAIN, wrong) == 1.0


def test_outcomes_that_are_all_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="0 of 3 suggestions were right"):
        fit([Outcome((-1.0,), False, False)] * 3)


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    assert Calibration.read(tmp_path) is None
    PLAIN.write(tmp_path)
    assert Calibration.read(tmp_path) == PLAIN


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"bias": "much"})])
def test_a_broken_file_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{CALIBRATION} is no calibration .* or delete it"):
        Calibration.read(tmp_path)


def test_hopeless_odds_are_no_overflow() -> None:
    assert PLAIN([-1e6], cut=False) == pytest.approx(0)
