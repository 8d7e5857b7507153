"""A suggestion's confidence: the regression, its threshold, its error, and the file it lives in."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest
from fim_model.calibration import CALIBRATION, Calibration, CopyWeights, features
from fim_model.copying import Copied
from fim_model.errors import CheckpointError
from fim_model.evaluation.calibrate import (
    Outcome,
    calibration_error,
    curve,
    fit,
    likeliest,
    threshold,
)

PLAIN = Calibration(bias=0.0, mean=1.0, total=0.0, least=0.0, cut=0.0, show_above=0.5)
PLAIN_FILE = asdict(PLAIN)


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


def copies(count: int, seed: int) -> list[Outcome]:
    """Copies that are right with probability `sigmoid(-4 + 2 * log(1 + matched))`."""
    rng, drawn = Random(seed), []
    for _ in range(count):
        found = Copied("x", rng.randrange(40), rng.randrange(9), rng.randrange(500))
        right = rng.random() < 1 / (1 + math.exp(4 - 2 * math.log1p(found.matched)))
        drawn.append(Outcome((-1.0, -rng.random()), False, right, found))
    return drawn


def test_copies_have_a_regression_of_their_own() -> None:
    found = fit(outcomes(2000, seed=0), copies(4000, seed=3))
    assert found.copies is not None
    for one in copies(200, seed=4):
        assert one.copied is not None
        expected = 1 / (1 + math.exp(4 - 2 * math.log1p(one.copied.matched)))
        assert found.of_copy(one.nats, one.copied) == pytest.approx(expected, abs=0.1)
    written = fit(outcomes(2000, seed=0))
    assert replace(found, copies=None) == written
    assert calibration_error(found, copies(3000, seed=5)) < 0.05


def test_without_a_regression_for_copies_none_is_believed() -> None:
    assert PLAIN.of_copy((-0.1,), Copied("x", 9, 9, 9)) == 0.0


def test_what_is_shown_of_a_hole_is_the_likeliest() -> None:
    calibration = fit(outcomes(2000, seed=0), copies(4000, seed=3))
    poor = Outcome((-9.0,), False, False)
    good = Outcome((-0.1, -0.1), False, True, Copied("x", 39, 3, 3))
    assert likeliest(calibration, [[poor, good], [poor]]) == [good, poor]


@pytest.mark.parametrize("kept", [PLAIN, replace(PLAIN, copies=CopyWeights(1, 2, 3, 4, 5, 6, 7))])
def test_a_calibration_comes_back_from_its_file(tmp_path: Path, kept: Calibration) -> None:
    assert Calibration.read(tmp_path) is None
    kept.write(tmp_path)
    assert Calibration.read(tmp_path) == kept


WRONG_COPIES = PLAIN_FILE | {"copies": {"bias": 1}}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", json.dumps({"bias": "much"}), json.dumps(WRONG_COPIES)]
)
def test_a_broken_file_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{CALIBRATION} is no calibration .* or delete it"):
        Calibration.read(tmp_path)


def test_hopeless_odds_are_no_overflow() -> None:
    assert PLAIN([-1e6], cut=False) == pytest.approx(0)
