"""What the gate knows of a suggestion beside the model's confidence, and how it weighs that."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fim_model.requests import Completion, CompletionItem, Gate
from lsprotocol import types as lsp

from fim_server.completion.evidence import (
    FEATURES,
    SYNTAX_CHARS,
    Surroundings,
    Weigher,
    evidence,
    excerpt,
    is_fitted,
    log_odds,
    weighed,
)
from fim_server.completion.gate import Judgement, judge, weigher
from fim_server.completion.hole import Hole, hole_at
from fim_server.completion.silence import DOUBTS, Silence
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.syntax import languages

TEXT = "import math\n\ndef area(radius):\n    return |\n\nprint(area(2))\n"
GATE = Gate(0.0, 1.0, 0.5, {"breaks": -9.0, "unknown_names": -6.0})


def around(text: str, others: tuple[str, ...] = (), language: str = "python") -> Surroundings:
    before, _, after = text.partition("|")
    return Surroundings(before, after, language, "", others)


def hole(text: str) -> Hole:
    before, _, after = text.partition("|")
    snapshot = Snapshot("file:///a", "python", 0, 0, Encoding.UTF32, split_lines(before + after))
    lines = before.split("\n")
    return hole_at(snapshot, lsp.Position(len(lines) - 1, len(lines[-1])), 1000, 1000)


def judged(
    *answers: tuple[str, float], text: str = TEXT, gate: Gate = GATE, others: tuple[str, ...] = ()
) -> Judgement:
    items = [CompletionItem(answer, confidence) for answer, confidence in answers]
    weigh = Weigher(gate, around(text, others))
    return judge(items, hole(text), gate.show_above, weigh=weigh)


def test_the_features_are_those_that_a_gate_may_weigh() -> None:
    assert set(evidence(around(TEXT), "1").features()) == FEATURES
    assert is_fitted(GATE)
    assert not is_fitted(replace(GATE, weights={"phase_of_the_moon": 1.0}))


def test_evidence_on_a_text() -> None:
    found = evidence(around(TEXT), "math.pi * radius ** 2")
    assert not found.breaks
    assert list(found.unknown) == ["pi"]
    assert found.features()["unknown_attributes"] == pytest.approx(math.log(2))
    assert not (found.whole_line)
    assert not (found.mid_word)
    assert not (found.copied)
    assert found.length == len("math.pi * radius ** 2")
    assert list(evidence(around(TEXT, ("from math import pi",)), "math.pi").unknown) == []
    assert evidence(around(TEXT), "(radius").breaks


@pytest.mark.parametrize(
    ("text", "answer", "whole_line", "mid_word"),
    [
        ("    |\n", "x", True, False),
        ("wid|\n", "th", False, True),
        ("wid|\n", " + 1", False, False),
        ("x = |\n", "1", False, False),
    ],
)
def test_the_kind_of_hole(text: str, answer: str, whole_line: bool, mid_word: bool) -> None:
    found = evidence(around(text), answer)
    assert (found.whole_line, found.mid_word) == (whole_line, mid_word)


def test_what_a_text_replaces_is_left_out() -> None:
    text = "print(|)\n"
    assert evidence(around(text), "1)").breaks
    assert not evidence(around(text), "1)", over=1).breaks


@pytest.mark.parametrize("language", ["lua", "", "markdown"])
def test_without_a_grammar_nothing_is_held_against_a_text(language: str) -> None:
    found = evidence(around(TEXT, language=language), "frob((")
    assert not found.breaks
    assert not list(found.unknown)


def test_without_the_grammars_package_nothing_is_held_against_a_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(languages, "_grammar", lambda language: None)
    found = evidence(around(TEXT), "frob((")
    assert not found.breaks
    assert not list(found.unknown)


def test_an_excerpt_has_whole_lines() -> None:
    line = "x" * 99 + "\n"
    before, after = excerpt(line * 200 + "ab", "cd\n" + line * 200)
    assert before.startswith(line)
    assert before.endswith("\nab")
    assert after.startswith("cd\n")
    assert after.endswith(line)
    assert max(len(before), len(after)) <= SYNTAX_CHARS
    assert excerpt("a", "b") == ("a", "b")


def test_a_gate_adds_log_odds() -> None:
    gate = Gate(0.5, 2.0, 0.0, {"breaks": -1.0, "length": 0.25})
    odds = 0.5 + 2 * math.log(0.8 / 0.2) - 1.0 + 0.25 * 3
    expected = 1 / (1 + math.exp(-odds))
    assert weighed(gate, 0.8, {"breaks": 1.0, "length": 3.0}) == pytest.approx(expected)
    assert log_odds(0.0) == pytest.approx(-log_odds(1.0))
    assert 0 <= weighed(Gate(-1e9, 1, 0, {}), 0.0, {}) < 1e-300


def test_the_reason_says_what_would_have_to_be_otherwise() -> None:
    assert judged(("radius * 2", 0.9)).silence is None
    assert judged(("radius * 2", 0.1)).silence is Silence.LOW_CONFIDENCE
    broken = judged(("[radius for", 0.9))
    assert (broken.silence, broken.about) == (Silence.WOULD_NOT_PARSE, "")
    unknown = judged(("frob(radius)", 0.9))
    assert (unknown.silence, unknown.about) == (Silence.UNKNOWN_NAME, "frob")
    assert judged(("frob(radius)", 0.9), others=("def frob(x): ...",)).silence is None
    assert judged(("frob(radius", 0.1)).silence is Silence.LOW_CONFIDENCE
    for silence in DOUBTS:
        assert silence.explained


def test_the_evidence_ranks_what_is_shown() -> None:
    shown = judged(("frob(radius)", 0.95), ("radius * 2", 0.8), gate=replace(GATE, show_above=0.0))
    assert shown.texts == ["radius * 2", "frob(radius)"]
    confidences = [item.confidence for item in shown.items]
    assert confidences[0] == pytest.approx(0.8)
    assert confidences[1] < 0.95


def test_a_gate_of_another_version_is_not_used() -> None:
    surroundings = around(TEXT)
    assert weigher(Completion(gate=GATE), surroundings) == Weigher(GATE, surroundings)
    assert weigher(Completion(), surroundings) is None
    later = replace(GATE, weights={"later": 1.0})
    assert weigher(Completion(gate=later), surroundings) is None
