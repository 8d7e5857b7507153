"""Calibration of confidence: the regression, the threshold, the error, and the file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest
from fim_model.calibration.confidence import CALIBRATION, Calibration, CopyWeights, features
from fim_model.copies import Copied
from fim_model.errors import CheckpointError
from fim_model.requests import Gate
from fim_training.shipping.calibrate import (
    Judged,
    Outcome,
    calibrate,
    calibration_error,
    curve,
    fit,
    judged,
    out_of_fold,
    threshold,
)

PLAIN = Calibration(bias=0.0, mean=1.0, total=0.0, least=0.0, cut=0.0, show_above=0.5)
PLAIN_FILE = asdict(PLAIN)


def outcomes(count: int, seed: int) -> list[Outcome]:
    """Outcomes that are right with probability `sigmoid(1 + 2 * mean + 0.5 * sum)`, if not cut."""
    rng, drawn = Random(seed), []
    for _ in range(count):
        nats = tuple(-rng.expovariate(2) for _ in range(rng.randint(1, 8)))
        cut = rng.random() < 0.2
        odds = 1 + 2 * sum(nats) / len(nats) + 0.5 * sum(nats) - 3 * cut
        drawn.append(Outcome(nats, cut, rng.random() < 1 / (1 + math.exp(-odds))))
    return drawn


def test_features_are_mean_sum_least_and_cut() -> None:
    assert features([-1.0, -3.0, -0.5], cut=True) == (-1.5, -4.5, -3.0, 1.0)


def alone(each: list[Outcome]) -> list[list[Outcome]]:
    """Holes with a single suggestion each."""
    return [[outcome] for outcome in each]


def test_the_regression_recovers_the_true_odds() -> None:
    """On new draws its probabilities are within a few hundredths of the true ones."""
    found = fit(alone(outcomes(4000, seed=0)))
    for outcome in outcomes(300, seed=1):
        total = sum(outcome.nats)
        odds = 1 + 2 * total / len(outcome.nats) + 0.5 * total - 3 * outcome.cut
        expected = 1 / (1 + math.exp(-odds))
        assert found(outcome.nats, outcome.cut) == pytest.approx(expected, abs=0.08)


def test_the_regression_is_calibrated_where_the_probabilities_were_not() -> None:
    new = alone(outcomes(3000, seed=2))
    assert calibration_error(judged(fit(alone(outcomes(4000, seed=0))), new)) < 0.05
    assert calibration_error(judged(PLAIN, new)) > 0.1


def test_the_calibration_error_is_its_definition() -> None:
    """Two bins, with two outcomes and one, and errors computed by hand."""
    sure, unsure, low = Judged(0.5, True), Judged(0.5, False), Judged(0.02, True)
    assert calibration_error([sure, unsure]) == 0
    assert calibration_error([sure, sure, low]) == pytest.approx((2 * 0.5 + 0.98) / 3)


def test_the_curve_goes_from_the_most_confident_to_all() -> None:
    drawn = [Judged(1 - i / 4, i < 2) for i in range(4)]
    points = curve(drawn[::-1])
    assert [point.coverage for point in points] == [25, 50, 75, 100]
    assert [point.precision for point in points] == [100, 100, pytest.approx(66.67), 50]
    assert [point.confidence for point in points] == [1, 0.75, 0.5, 0.25]


def test_the_threshold_maximises_coverage_at_the_required_precision() -> None:
    drawn = [Judged(1 - i / 4, i < 2) for i in range(4)]
    for precision, shown in ((0.9, 2), (0.6, 3), (0.5, 4)):
        least = threshold(drawn, precision)
        assert sum(suggestion.confidence >= least for suggestion in drawn) == shown
    assert threshold([Judged(0.9, False)]) == 1.0


def test_outcomes_that_are_all_equal_are_refused() -> None:
    with pytest.raises(ValueError, match="0 of 3 suggestions were right"):
        fit([[Outcome((-1.0,), False, False)]] * 3)


def test_cross_validation_excludes_the_project_itself() -> None:
    """A project whose suggestions are all wrong is scored by a fit on the other projects."""
    projects = {name: alone(outcomes(800, seed)) for seed, name in enumerate("abc")}
    odd = {**projects, "c": [[replace(outcome, accepted=False)] for [outcome] in projects["c"]]}
    assert out_of_fold(odd)["c"] == [
        replace(suggestion, accepted=False) for suggestion in out_of_fold(projects)["c"]
    ]
    assert out_of_fold(odd)["a"] != out_of_fold(projects)["a"]
    with pytest.raises(ValueError, match="at least two projects"):
        out_of_fold({"a": projects["a"]})


def test_the_figures_of_a_calibration_are_from_unseen_projects() -> None:
    projects = {name: alone(outcomes(1500, seed)) for seed, name in enumerate("abcd")}
    calibration, figures = calibrate(projects)
    assert figures["n"] == 6000
    assert figures["accepted"] == figures["accepted_written"]
    assert figures["calibration_error"] < 0.05
    assert figures["precision_shown"] == pytest.approx(60, abs=4)
    assert 0 < figures["coverage_shown"] < 100
    assert calibration.show_above == pytest.approx(figures["show_above"], abs=1e-4)
    whole = fit([some for each in projects.values() for some in each])
    assert replace(calibration, show_above=0.0) == whole


def copies(count: int, seed: int) -> list[Outcome]:
    """Copies that are right with probability `sigmoid(-4 + 2 * log(1 + matched))`."""
    rng, drawn = Random(seed), []
    for _ in range(count):
        alike = rng.randrange(40), rng.randrange(9), rng.randrange(500), rng.randrange(1, 4)
        found = Copied("x", *alike, elsewhere=rng.random() < 0.3)
        right = rng.random() < 1 / (1 + math.exp(4 - 2 * math.log1p(found.matched)))
        drawn.append(Outcome((-1.0, -rng.random()), False, right, found))
    return drawn


def test_copies_have_a_separate_regression() -> None:
    found = fit([*alone(outcomes(2000, seed=0)), *alone(copies(4000, seed=3))])
    assert found.copies is not None
    for copy in copies(200, seed=4):
        assert copy.copied is not None
        expected = 1 / (1 + math.exp(4 - 2 * math.log1p(copy.copied.matched)))
        assert found.of_copy(copy.nats, copy.copied) == pytest.approx(expected, abs=0.1)
    assert replace(found, copies=None) == fit(alone(outcomes(2000, seed=0)))
    assert calibration_error(judged(found, alone(copies(3000, seed=5)))) < 0.05


def test_without_a_regression_for_copies_none_is_used() -> None:
    assert PLAIN.of_copy((-0.1,), Copied("x", 9, 9, 9)) == 0.0


def test_the_likeliest_suggestion_of_a_hole_is_shown() -> None:
    calibration = fit([*alone(outcomes(2000, seed=0)), *alone(copies(4000, seed=3))])
    poor = Outcome((-9.0,), False, False)
    good = Outcome((-0.1, -0.1), False, True, Copied("x", 39, 3, 3))
    shown = judged(calibration, [[poor, good], [poor]])
    found = [(suggestion.accepted, suggestion.copied) for suggestion in shown]
    assert found == [(True, True), (False, False)]
    assert good.copied is not None
    assert shown[0].confidence == calibration.of_copy(good.nats, good.copied)


def test_weights_missing_in_an_older_file_are_zero(tmp_path: Path) -> None:
    replace(PLAIN, copies=CopyWeights(1, 2, 3, 4, 5, 6, 7, 8, 9)).write(tmp_path)
    file = tmp_path / CALIBRATION
    raw = json.loads(file.read_text())
    del raw["copies"]["places"], raw["copies"]["elsewhere"]
    file.write_text(json.dumps(raw))
    kept = Calibration.read(tmp_path)
    assert kept is not None
    assert kept.copies == CopyWeights(1, 2, 3, 4, 5, 6, 7)
    del raw["copies"]["matched"]
    file.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="is not a calibration"):
        Calibration.read(tmp_path)


@pytest.mark.parametrize(
    "kept",
    [
        PLAIN,
        replace(PLAIN, copies=CopyWeights(1, 2, 3, 4, 5, 6, 7, 8, 9)),
        replace(PLAIN, gate=Gate(-0.5, 1.5, 0.25, {"breaks": -3.0, "length": 0.125})),
    ],
)
def test_a_calibration_round_trips(tmp_path: Path, kept: Calibration) -> None:
    assert Calibration.read(tmp_path) is None
    kept.write(tmp_path)
    assert Calibration.read(tmp_path) == kept


WRONG_COPIES = PLAIN_FILE | {"copies": {"bias": 1}}
WRONG_GATE = PLAIN_FILE | {"gate": {"bias": 1, "confidence": 1, "show_above": 1, "weights": [1]}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"bias": "much"}),
        json.dumps(WRONG_COPIES),
        json.dumps(WRONG_GATE),
    ],
)
def test_a_broken_file_is_reported_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(
        CheckpointError, match=rf"{CALIBRATION} is not a calibration .* or delete it"
    ):
        Calibration.read(tmp_path)


def test_extreme_odds_do_not_overflow() -> None:
    assert PLAIN([-1e6], cut=False) == pytest.approx(0)
