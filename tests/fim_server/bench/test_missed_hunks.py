"""How far hunks came that followed, and those that were missed, to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fim_training.corpus.line_diff import LineHunk
from fim_training.examples.hunk_sequences import HunkSequence
from git_clones import write_clone

from fim_server.bench.missed_hunks import STAGES, fates, figures
from fim_server.cli import main

BEFORE = ("one = load(path, 1)", "", "two(x)", "", "one = load(path, 1)", "", "y ** 2", "")


def sequence(*hunks: LineHunk) -> HunkSequence:
    return HunkSequence("p", "c0", "a.py", "python", BEFORE, hunks)


EDIT = LineHunk(0, (BEFORE[0],), ("one = read(path, 1)",))
SAME = LineHunk(4, (BEFORE[4],), ("one = read(path, 1)",))
OTHER = LineHunk(4, (BEFORE[4],), ("one = None",))
NEW = LineHunk(6, (BEFORE[6],), ("pass",))


@pytest.mark.parametrize(
    ("hunk", "gate", "stage"),
    [
        (SAME, -100.0, "shown"),
        (SAME, 100.0, "held back"),
        (OTHER, -100.0, "wrong drafts"),
        (NEW, -100.0, "no draft"),
    ],
)
def test_how_far_a_hunk_came(hunk: LineHunk, gate: float, stage: str) -> None:
    [fate, _] = fates([sequence(EDIT, hunk)], gate)
    assert STAGES[fate.reached.stage] == stage
    assert (fate.hunk, fate.earlier) == (hunk, (EDIT,))


def test_the_tally_and_the_sample() -> None:
    found = list(fates([sequence(EDIT, SAME, NEW)], 100.0))
    tally = figures(found, 5)
    assert tally["stages"]["in order"] == {
        "no draft": 1, "wrong drafts": 0, "held back": 1, "shown": 0
    }  # fmt: skip
    assert tally["shapes"]["same count"]["held back"] == 1
    assert sum(rule["held back"] for rule in tally["rules"].values()) == 1
    [one, other] = sorted(tally["missed"], key=len)
    assert "no draft" in one
    assert "- y ** 2\n+ pass" in one
    assert "draft of" not in one
    assert "held back" in other
    assert "  draft of" in other
    assert len(figures(found, 1)["missed"]) == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = "\n".join(sequence(EDIT, NEW).after)
    commits = [("add", {"a.py": "\n".join(BEFORE)}), ("edit", {"a.py": after})]
    command = ["eval", "edits", "--git", str(write_clone(tmp_path / "a", commits))]
    assert main([*command, "--misses", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stages"]["in order"]["no draft"] == 1
    assert len(found["missed"]) == 1
    assert main([*command, "--misses", "3"]) == 0
    assert "  missed, line 7\n" in capsys.readouterr().out
    assert main([*command, "--misses", "3", "--fit"]) == 2
    assert "--misses needs --git" in capsys.readouterr().err
