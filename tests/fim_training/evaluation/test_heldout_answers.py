"""A checkpoint's answers are asked for once, and kept for it alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fim_model.copies import Copied
from fim_training.evaluation.heldout_answers import Answer, AnswerFile, Answers, collect
from fim_training.evaluation.heldout_holes import Document, HeldoutHole
from fim_training.evaluation.jsonl import EvaluationDataError

DOCUMENT = Document("p", "a.py", "x = 1\ny = 2\n")
HOLES = [HeldoutHole("rest_of_line", DOCUMENT, start, start + 1) for start in (4, 10)]
COPIED = Copied("2", 4, 1, 6, elsewhere=True)


class Model:
    """Writes the hole's start, and is asked with a number of alternatives."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, hole: HeldoutHole, alternatives: int) -> Answers:
        self.asked.append((hole.start, alternatives))
        written = (Answer(f"{hole.start}\n", (-0.5, -1.25)), Answer("z", (-2.0,), cut=True))
        copies = (Answer("2", (-0.25,), copied=COPIED),)
        return Answers(written[:alternatives], copies, alternatives)


def test_answers_are_kept_and_not_asked_for_again(tmp_path: Path) -> None:
    path, model = tmp_path / "runs" / "answers.jsonl", Model()
    first = list(collect(HOLES[:1], AnswerFile(path, "abc", "ar"), model))
    again = list(collect(HOLES, AnswerFile(path, "abc", "ar"), model))
    assert model.asked == [(4, 1), (10, 1)]
    assert again[:1] == first
    [(hole, answers), _] = again
    assert hole is HOLES[0]
    assert answers == Model()(HOLES[0], 1)
    assert list(collect(HOLES, AnswerFile(path, "abc", "ar"), Model())) == again


def test_more_alternatives_are_asked_for_where_they_are_wanted(tmp_path: Path) -> None:
    path, model = tmp_path / "answers.jsonl", Model()

    def wanted(hole: HeldoutHole, answers: Answers) -> int:
        return 2 if answers.written[0].text == "10\n" else 1

    for _ in range(2):
        found = collect(HOLES, AnswerFile(path, "abc", "ar"), model, wanted)
        assert [len(answers.written) for _, answers in found] == [1, 2]
    assert model.asked == [(4, 1), (10, 1), (10, 2)]


def test_a_line_that_was_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    path, model = tmp_path / "answers.jsonl", Model()
    list(collect(HOLES, AnswerFile(path, "abc", "ar"), model))
    path.write_text(path.read_text()[:-20])
    list(collect(HOLES, AnswerFile(path, "abc", "ar"), model))
    assert model.asked == [(4, 1), (10, 1), (10, 1)]
    assert len(AnswerFile(path, "abc", "ar")) == 2


def test_without_a_file_nothing_is_kept() -> None:
    model = Model()
    list(collect(HOLES, AnswerFile(None, "abc", "ar"), model))
    assert len(model.asked) == 2


@pytest.mark.parametrize("other", [("abd", "ar"), ("abc", "diffusion")])
def test_answers_of_another_checkpoint_or_mode_are_refused(
    tmp_path: Path, other: tuple[str, str]
) -> None:
    path = tmp_path / "answers.jsonl"
    AnswerFile(path, "abc", "ar")
    with pytest.raises(EvaluationDataError, match="another checkpoint or mode; delete it"):
        AnswerFile(path, *other)


HEADER = json.dumps({"checkpoint": "abc", "mode": "ar"})


@pytest.mark.parametrize("text", ["", "{}\n", "x\n", f"{HEADER}\n{{}}\n", f"{HEADER}\n[1]\n"])
def test_another_file_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(EvaluationDataError, match=r"notes\.txt has"):
        AnswerFile(path, "abc", "ar")
    assert path.read_text() == text


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationDataError, match="give another --answers"):
        AnswerFile(tmp_path, "abc", "ar")
