"""Fits the gate on a model's answers for held-out holes, and measures what it is worth.

Three ways to decide are compared on the same holes, as precision against coverage: by the model's
calibrated confidence alone, by the gate (that and the front-end's evidence), and by the gate with
alternatives where the likeliest text would not parse. Every project is scored by weights that the
others gave; intervals come from drawing projects with replacement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fim_model.calibration.confidence import Calibration
from fim_model.requests import Gate
from fim_training.corpus.corpus_languages import language_of as corpus_language
from fim_training.evaluation.figures import percentage, same_text
from fim_training.evaluation.heldout_answers import Answer, Answers
from fim_training.evaluation.heldout_holes import HeldoutHole, Window
from fim_training.shipping.calibrate import (
    PRECISION,
    Judged,
    Outcome,
    calibration_error,
    curve,
    fit,
    outcomes,
    regression,
    threshold,
)
from lsprotocol import types as lsp

from fim_server.completion.evidence import (
    FEATURES,
    NAME_CHARS,
    Surroundings,
    evidence,
    log_odds,
    weighed,
)
from fim_server.completion.gate import trimmed
from fim_server.completion.hole import Hole
from fim_server.completion.right_side import Fit
from fim_server.documents.documents import Place

DRAWS = 1000
"""Sets of as many projects, drawn with replacement."""

COVERAGES = (10, 20, 30, 40, 50)
"""Percentages of holes at which precision is reported."""

WAYS = ("model", "gate", "gate and alternatives")

TEXT = frozenset(["markdown", "toml", "yaml", "json"])
"""Languages of the corpus that are no code."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text for a hole. right: what would be shown of it is what was there.

    features: of what would be shown, None if nothing would.
    """

    outcome: Outcome
    right: bool
    features: Mapping[str, float] | None

    @property
    def breaks(self) -> bool:
        return self.features is not None and self.features["breaks"] > 0


@dataclass(frozen=True, slots=True)
class Case:
    """A hole with the candidates that the server judges, and the model's other texts for it."""

    project: str
    kind: str
    language: str
    candidates: tuple[Candidate, ...]
    alternatives: tuple[Candidate, ...] = ()


Scores = Sequence[Sequence[float]]
"""For each case a probability for each candidate, then for each alternative."""


def case_of(hole: HeldoutHole, answers: Answers) -> Case:
    """A hole as the gate sees it."""
    first, *others = answers.written
    shown, around = _shown(hole), _surroundings(hole)

    def candidate(answer: Answer) -> Candidate:
        outcome = Outcome(answer.nats, answer.cut, False, answer.copied)
        fit = trimmed(answer.text, shown)
        if not isinstance(fit, Fit):
            return Candidate(outcome, False, None)
        found = evidence(around, fit.text, fit.over, copied=answer.copied is not None)
        right = not fit.over and same_text(fit.text, hole.answer)
        return Candidate(outcome, right, found.features())

    given = [candidate(answer) for answer in (first, *answers.copies)]
    judged = zip(given, outcomes(answers, hole.answer), strict=True)
    return Case(
        hole.document.project,
        hole.kind,
        _language(hole),
        tuple(replace(each, outcome=outcome) for each, outcome in judged),
        tuple(candidate(answer) for answer in others),
    )


def first_breaks(hole: HeldoutHole, answers: Answers) -> bool:
    """Whether the model's likeliest text for a hole would not parse."""
    return case_of(hole, replace(answers, copies=())).candidates[0].breaks


def _shown(hole: HeldoutHole) -> Hole:
    """The hole as the server has it, with its window."""
    seen = hole.hole(Window())
    line, column = hole.prefix.count("\n"), len(hole.prefix.rpartition("\n")[2])
    return Hole(
        seen.prefix,
        seen.suffix,
        lsp.Position(line, column),
        "\n",
        Place(line, column),
        _language(hole),
    )


def _surroundings(hole: HeldoutHole) -> Surroundings:
    before, after = hole.prefix[-NAME_CHARS:], hole.suffix[:NAME_CHARS]
    return Surroundings(before, after, _language(hole), hole.document.path, hole.others)


def _language(hole: HeldoutHole) -> str:
    found = corpus_language(hole.document.path)
    return "" if found is None else found.name


def confidences(calibration: Calibration, cases: Iterable[Case]) -> Scores:
    """The model's calibrated confidence in each text; 0 where nothing would be shown."""

    def confidence(candidate: Candidate) -> float:
        outcome = candidate.outcome
        if candidate.features is None:
            return 0.0
        if outcome.copied is not None:
            return calibration.of_copy(outcome.nats, outcome.copied)
        return calibration(outcome.nats, outcome.cut)

    return [[confidence(each) for each in (*case.candidates, *case.alternatives)] for case in cases]


def fit_gate(cases: Sequence[Case], scores: Scores, names: Collection[str] = FEATURES) -> Gate:
    """The weights by which a text of the cases is right, given the model's confidences.

    The threshold is 0. Raises ValueError where all texts have the same outcome.
    """
    chosen = sorted(names)
    right, seen = [], []
    for case, own in zip(cases, scores, strict=True):
        for candidate, score in zip(case.candidates, own, strict=False):
            if candidate.features is not None:
                right.append(candidate.right)
                seen.append([log_odds(score), *(candidate.features[name] for name in chosen)])
    bias, (confidence, *weights) = regression(right, seen)
    return Gate(bias, confidence, 0.0, dict(zip(chosen, weights, strict=True)))


def gated(gate: Gate, cases: Sequence[Case], scores: Scores) -> Scores:
    """The gate's probabilities, from the model's confidences."""
    return [
        [
            0.0 if each.features is None else weighed(gate, score, each.features)
            for each, score in zip((*case.candidates, *case.alternatives), own, strict=True)
        ]
        for case, own in zip(cases, scores, strict=True)
    ]


def best_of(case: Case, scores: Sequence[float], *, wider: bool = False) -> Judged:
    """The surest candidate of a case. wider: with the alternatives, where it would not parse."""
    count = len(case.candidates)
    best = max(range(count), key=scores.__getitem__)
    texts = (*case.candidates, *case.alternatives)
    if wider and case.candidates[0].breaks:
        best = max(range(len(texts)), key=scores.__getitem__)
    chosen = texts[best]
    return Judged(scores[best], chosen.right, chosen.outcome.copied is not None)


def out_of_fold(
    cases: Sequence[Case], names: Collection[str] = FEATURES
) -> dict[str, list[Judged]]:
    """By way of deciding: the best text of each case, by weights that the other projects gave."""
    found: dict[str, dict[int, Judged]] = {way: {} for way in WAYS}
    for project in sorted({case.project for case in cases}):
        others = [case for case in cases if case.project != project]
        calibration = _fitted(others)
        gate = fit_gate(others, confidences(calibration, others), names)
        places = [at for at, case in enumerate(cases) if case.project == project]
        own = [cases[at] for at in places]
        plain = confidences(calibration, own)
        weighted = gated(gate, own, plain)
        for at, case, before, after in zip(places, own, plain, weighted, strict=True):
            found["model"][at] = best_of(case, before)
            found["gate"][at] = best_of(case, after)
            found["gate and alternatives"][at] = best_of(case, after, wider=True)
    return {way: [by_case[at] for at in range(len(cases))] for way, by_case in found.items()}


def _fitted(cases: Sequence[Case]) -> Calibration:
    return fit([[each.outcome for each in case.candidates] for case in cases])


def calibrated(cases: Sequence[Case]) -> tuple[Gate, dict[str, Any]]:
    """The gate, fitted on all cases, and what it is worth on projects that it never saw.

    Raises ValueError for a single project, and where all texts have the same outcome.
    """
    projects = sorted({case.project for case in cases})
    if len(projects) < 2:
        raise ValueError("a gate needs holes of at least two projects; give more documents")
    found = out_of_fold(cases)
    whole = fit_gate(cases, confidences(_fitted(cases), cases))
    gate = replace(whole, show_above=threshold(found[WAYS[-1]]))
    groups = {
        "all": list(range(len(cases))),
        "python": [at for at, case in enumerate(cases) if case.language == "python"],
        "other code": [
            at for at, case in enumerate(cases) if case.language not in {"python", "", *TEXT}
        ],
        "text and data": [at for at, case in enumerate(cases) if case.language in TEXT],
    }
    return gate, {
        "n": len(cases),
        "projects": projects,
        "broken": sum(case.candidates[0].breaks for case in cases),
        "gain": gain(found["gate"], found["model"], cases),
        "ways": {way: _figures(shown, cases) for way, shown in found.items()},
        "groups": {
            name: {
                "n": len(places),
                **{way: at_precision([shown[at] for at in places]) for way, shown in found.items()},
            }
            for name, places in groups.items()
            if places
        },
    }


def at_precision(shown: Sequence[Judged]) -> float:
    """The largest coverage (%) at which the surest texts have PRECISION."""
    order = np.argsort([-each.confidence for each in shown], kind="stable")
    right = np.cumsum(np.array([each.accepted for each in shown])[order])
    good = np.flatnonzero(right >= PRECISION * np.arange(1, len(shown) + 1))
    return percentage(int(good[-1]) + 1, len(shown)) if len(good) else 0.0


def _figures(shown: Sequence[Judged], cases: Sequence[Case]) -> dict[str, Any]:
    points = curve(shown)
    unasked = _unasked(shown, cases)
    low, high = interval(shown, cases)
    return {
        "coverage_at_precision": at_precision(shown),
        "interval": [low, high],
        "precision_at": {
            share: points[max(len(points) * share // 100 - 1, 0)].precision for share in COVERAGES
        },
        "threshold_of_others": {
            "precision": percentage(sum(each.accepted for each in unasked), len(unasked)),
            "coverage": percentage(len(unasked), len(shown)),
        },
        "calibration_error": round(calibration_error(shown), 4),
    }


def _unasked(shown: Sequence[Judged], cases: Sequence[Case]) -> list[Judged]:
    """What would be shown of each project by the threshold that the others give."""
    found = []
    for project in {case.project for case in cases}:
        pairs = list(zip(shown, cases, strict=True))
        least = threshold([each for each, case in pairs if case.project != project])
        own = (each for each, case in pairs if case.project == project)
        found += [each for each in own if each.confidence >= least]
    return found


def interval(shown: Sequence[Judged], cases: Sequence[Case], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of `at_precision` over draws of the projects."""
    drawn = [at_precision([shown[at] for at in places]) for places in _draws(cases, seed)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return round(float(low), 1), round(float(high), 1)


def gain(
    better: Sequence[Judged], worse: Sequence[Judged], cases: Sequence[Case], seed: int = 0
) -> dict[str, float]:
    """How much more is covered at PRECISION, by the same draws of projects for both: the 95 %
    interval, in points, and the share of draws (%) in which there is a gain."""
    differences = [
        at_precision([better[at] for at in places]) - at_precision([worse[at] for at in places])
        for places in _draws(cases, seed)
    ]
    low, high = np.percentile(differences, [2.5, 97.5])
    gained = sum(difference > 0 for difference in differences)
    return {
        "low": round(float(low), 1),
        "high": round(float(high), 1),
        "gained": percentage(gained, len(differences)),
    }


def _draws(cases: Sequence[Case], seed: int) -> Iterable[list[int]]:
    """The places of the cases of as many projects, drawn with replacement."""
    by_project: dict[str, list[int]] = {}
    for at, case in enumerate(cases):
        by_project.setdefault(case.project, []).append(at)
    projects = list(by_project.values())
    for draw in np.random.default_rng(seed).integers(len(projects), size=(DRAWS, len(projects))):
        yield [at for number in draw for at in projects[number]]
