"""Which of several answers are shown: distinct ones, plausible ones, and no recited licence."""

from __future__ import annotations

from pathlib import Path

import pytest
from fim_model.requests import CompletionItem
from lsprotocol import types as lsp

from fim_server.completion.gate import MIN_ALTERNATIVE, judge, judge_context
from fim_server.completion.hole import Hole, hole_at
from fim_server.completion.silence import Silence
from fim_server.documents.documents import Encoding, Snapshot, split_lines


def hole(text: str, language: str = "python") -> Hole:
    """The hole at the only `|` of a text."""
    before, _, after = text.partition("|")
    snapshot = Snapshot("file:///a", language, 0, 0, Encoding.UTF32, split_lines(before + after))
    lines = before.split("\n")
    return hole_at(snapshot, lsp.Position(len(lines) - 1, len(lines[-1])), 1000, 1000)


def shown(*items: tuple[str, float], limit: int | None = None, text: str = "x = |\n") -> list[str]:
    answers = [CompletionItem(answer, confidence) for answer, confidence in items]
    return judge(answers, hole(text), 0.0, limit).texts


def test_answers_that_differ_in_white_space_count_as_one() -> None:
    answers = ("f(a, b)", 0.5), ("f(a,b)", 0.4), ("f(a,  b)  ", 0.3), ("g()", 0.2)
    assert shown(*answers) == ["f(a, b)", "g()"]


def test_implausible_answers_are_left_out_but_the_best_is_kept() -> None:
    assert shown(("f()", 0.6), ("g()", 0.031), ("h()", 0.029)) == ["f()", "g()"]
    assert shown(("f()", 0.0005), ("g()", 0.0004)) == ["f()"]
    assert MIN_ALTERNATIVE == 0.001


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_than_were_asked_for(limit: int) -> None:
    answers = [(f"name_{n}", 0.5) for n in range(5)]
    assert shown(*answers, limit=limit) == [f"name_{n}" for n in range(limit)]


@pytest.mark.parametrize("text", ["|", "\n\n|\n", "  \t|", "{|}\n"])
def test_a_text_without_a_word_is_nothing_to_go_on(text: str) -> None:
    assert judge_context(hole(text)) is Silence.NOTHING_TO_GO_ON


@pytest.mark.parametrize("text", ["x|", "|\nimport os", "# ünïcode|", "1|"])
def test_any_word_is_something_to_go_on(text: str) -> None:
    assert judge_context(hole(text)) is None


@pytest.mark.parametrize(
    "licence",
    [
        "// Copyright 2019 The Authors.",
        "# SPDX-License-Identifier: MIT",
        "/* Licensed under the Apache License */",
        "Permission is hereby granted, free of charge",
    ],
)
def test_a_recited_licence_is_not_shown(licence: str) -> None:
    answers = [CompletionItem(licence, 0.9)]
    judgement = judge(answers, hole("package main\n\n|", "go"), 0.0)
    assert judgement.silence is Silence.LICENCE_TEXT
    begun = hole("# Copyright 2026 me\n# |\nx = 1\n")
    assert judge(answers, begun, 0.0).silence is not Silence.LICENCE_TEXT


@pytest.mark.parametrize("silence", Silence)
def test_every_silence_is_explained(silence: Silence) -> None:
    assert len(silence.explained) > 10
    assert "_" not in silence.explained


@pytest.mark.parametrize("silence", Silence)
def test_every_silence_is_in_the_documentation(silence: Silence) -> None:
    page = Path(__file__).parents[3] / "editors" / "README.md"
    row = f"| `{silence.value}` | {silence.explained} |"
    assert row in page.read_text(encoding="utf-8").splitlines()
