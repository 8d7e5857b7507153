"""The score that decides whether edits by instruction are offered: tasks, early end, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from fim_model.calibration.instruction_score import MIN_RIGHT, TASKS, InstructionScore


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.instruction)
def test_every_task_tells_right_from_wrong(task) -> None:
    for right in task.right:
        assert task.is_done(right)
        assert task.is_done(f"\n{right} \n")
    assert not task.is_done(task.old), "the lines as they were are not the answer"
    assert not task.is_done(task.right[0] + "\nmore")
    assert not task.is_done("")
    assert task.request.speculative, "it yields to what the user waits for"


def test_the_measurement_ends_when_it_is_decided() -> None:
    right = wrong = InstructionScore(0, 0)
    for asked in range(1, len(TASKS) + 1):
        right, wrong = right.and_(True), wrong.and_(False)
        assert right.decided is (asked >= MIN_RIGHT)
        assert wrong.decided is (asked > len(TASKS) - MIN_RIGHT)
        assert not wrong.suffices
    assert right.suffices
    assert str(InstructionScore(1, 6)) == "1 of 6 test edits right; 6 of 10 are needed"


def test_the_first_readable_decided_score_counts(tmp_path: Path) -> None:
    files = [tmp_path / "missing.json", tmp_path / "own.json", tmp_path / "deep" / "cache.json"]
    assert InstructionScore.read(files) is None
    InstructionScore(8, 10).write(files[2])
    for unfit in (
        "",
        "[]",
        '{"right": "x"}',
        '{"right": 1, "asked": 2}',
        '{"right": 9, "asked": 3}',
    ):
        files[1].write_text(unfit)
        assert InstructionScore.read(files) == InstructionScore(8, 10)
    InstructionScore(0, 5).write(files[1])
    assert InstructionScore.read(files) == InstructionScore(0, 5)
