"""Fitting the gate: what it learns, and that its figures are those of unseen projects."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
from fim_model.copies import Copied
from fim_training.evaluation.heldout_answers import Answer, Answers
from fim_training.evaluation.heldout_holes import Document, HeldoutHole
from fim_training.shipping.calibrate import Judged, Outcome

from fim_server.bench.gate_fit import (
    Candidate,
    Case,
    at_precision,
    best_of,
    calibrated,
    case_of,
    first_breaks,
    fit_gate,
    gain,
    gated,
    interval,
    out_of_fold,
)
from fim_server.completion.evidence import FEATURES, Evidence
from fim_server.syntax.known_names import Unknown

NO_FEATURES = dict.fromkeys(FEATURES, 0.0)


def candidate(nats: float, right: bool, **features: float) -> Candidate:
    return Candidate(Outcome((nats,), False, right), right, NO_FEATURES | features)


def cases(count: int, seed: int, projects: str = "abcd") -> list[Case]:
    """A text that breaks the document is never right; another one is with probability
    sigmoid(2 + nats)."""
    rng, found = Random(seed), []
    for number in range(count):
        nats, broken = -rng.expovariate(0.5), rng.random() < 0.3
        right = not broken and rng.random() < 1 / (1 + math.exp(-2 - nats))
        text = candidate(nats, right, breaks=float(broken))
        other = candidate(nats - 1, broken and rng.random() < 0.5)
        others = (other,) if broken else ()
        found.append(Case(projects[number % len(projects)], "line", "python", (text,), others))
    return found


def test_a_feature_that_tells_wrong_texts_gets_a_large_negative_weight() -> None:
    drawn = cases(2000, 0)
    scores = [[1 / (1 + math.exp(-2 - each.outcome.nats[0])) for each in (*case.candidates, *case.alternatives)] for case in drawn]  # noqa: E501 # fmt: skip
    gate = fit_gate(drawn, scores)
    assert gate.weights["breaks"] < -2
    assert gate.confidence == pytest.approx(1, abs=0.25)
    assert all(abs(gate.weights[name]) < 1e-6 for name in FEATURES - {"breaks"})
    for case, own in zip(drawn, gated(gate, drawn, scores), strict=True):
        if case.candidates[0].breaks:
            assert own[0] < 0.15
    assert set(fit_gate(drawn, scores, ["length"]).weights) == {"length"}


def test_the_gate_covers_more_at_the_same_precision_and_alternatives_still_more() -> None:
    gate, figures = calibrated(cases(1500, 1))
    ways = figures["ways"]
    covered = [ways[way]["coverage_at_precision"] for way in ("model", "gate")]
    assert covered[1] > covered[0] + 10
    low, high = ways["gate"]["interval"]
    assert low <= covered[1] <= high
    assert figures["n"] == 1500
    assert 0 < gate.show_above < 1
    assert ways["gate"]["calibration_error"] < 0.05
    assert ways["gate"]["threshold_of_others"]["precision"] == pytest.approx(60, abs=4)


def test_alternatives_count_only_where_the_first_text_breaks() -> None:
    whole, broken = candidate(-1, False), candidate(-1, False, breaks=1.0)
    other = candidate(-1, True)
    case = Case("a", "line", "python", (broken,), (other,))
    assert best_of(case, [0.1, 0.4], wider=True) == Judged(0.4, True)
    assert best_of(case, [0.1, 0.4]) == Judged(0.1, False)
    assert best_of(replace(case, candidates=(whole,)), [0.1, 0.4], wider=True) == Judged(0.1, False)


def test_a_project_is_scored_by_the_others_alone() -> None:
    drawn = cases(900, 2, "abc")
    odd = [
        replace(case, candidates=tuple(replace(c, right=False) for c in case.candidates))
        if case.project == "c"
        else case
        for case in drawn
    ]
    before, after = out_of_fold(drawn)["gate"], out_of_fold(odd)["gate"]
    for case, one, other in zip(drawn, before, after, strict=True):
        assert (one.confidence == other.confidence) == (case.project == "c")
    with pytest.raises(ValueError, match="at least two projects"):
        calibrated([case for case in drawn if case.project == "a"])


def test_the_interval_is_over_projects() -> None:
    """Two projects that are all right or all wrong: a draw may have only one of them."""
    both = [Case(project, "line", "", ()) for project in "ab" for _ in range(50)]
    shown = [Judged(0.9, True)] * 50 + [Judged(0.1, False)] * 50
    assert at_precision(shown) == pytest.approx(83, abs=1)
    low, high = interval(shown, both)
    assert (low, high) == (0, 100)
    worse = [Judged(0.1, False)] * 100
    assert gain(shown, worse, both)["gained"] == pytest.approx(75, abs=5)
    assert gain(shown, shown, both) == {"low": 0, "high": 0, "gained": 0}


TEXT = "def area(radius):\n    return radius * 2\n\nprint(area(2))\n"


def hole(answer: str = "radius * 2") -> HeldoutHole:
    start = TEXT.index(answer)
    document = Document("p", "a.py", TEXT)
    return HeldoutHole("rest_of_line", document, start, start + len(answer))


def test_a_case_has_what_the_server_would_show() -> None:
    copied = Copied("radius * 2", 3, 0, 9)
    written = (Answer("radius * 2\n", (-0.1,)), Answer("frob(radius)", (-3.0,)))
    case = case_of(hole(), Answers(written, (Answer("radius * 2", (-0.2,), copied=copied),), 2))
    assert [each.right for each in case.candidates] == [True, True]
    assert case.candidates[1].features == {
        **Evidence(10, False, Unknown(), True, False, False).features()
    }
    [other] = case.alternatives
    assert (other.right, other.features and other.features["unknown_names"]) == (
        False,
        pytest.approx(math.log(2)),
    )
    assert (case.project, case.kind, case.language) == ("p", "rest_of_line", "python")
    blank = case_of(hole(), Answers((Answer("  ", (-1.0,)),)))
    assert blank.candidates[0].features is None


def test_alternatives_are_wanted_where_the_first_text_breaks() -> None:
    assert first_breaks(hole(), Answers((Answer("[radius", (-0.1,)),)))
    assert not first_breaks(hole(), Answers((Answer("radius", (-0.1,)),)))
