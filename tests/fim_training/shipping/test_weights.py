"""Comparison of full and int8 weights: the same holes, paired figures, and the verdict."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from fim_training.evaluation.filler import Fill, Hole
from fim_training.evaluation.heldout_holes import KINDS, Document, draw_holes
from fim_training.shipping.weights import (
    ENOUGH,
    TOLERATED,
    Comparison,
    compare_heldout,
    compare_tasks,
    comparison_table,
    main,
    verdict,
)
from small_tasks import DOUBLE
from tiny_checkpoint import write_tiny_checkpoint

RIGHT, OTHERWISE, WRONG = "    return 2 * x", "    return x + x", "    return x"
SOURCE = "".join(f"value_{i} = compute({i}, 'text')\n" for i in range(60))


def test_holes_with_tests_are_graded_by_them() -> None:
    found = compare_tasks(
        "lines", [DOUBLE], lambda hole: Fill(OTHERWISE, ms=4), lambda hole: Fill(WRONG, ms=3)
    )
    assert (found.n, found.passed, found.exact, found.same) == (1, (100, 0), (0, 0), 0)
    assert found.ms == (4, 3)
    assert 0 < found.similarity[1] < 100
    alike = compare_tasks("lines", [DOUBLE], lambda hole: Fill(RIGHT), lambda hole: Fill(RIGHT))
    assert (alike.exact, alike.similarity, alike.same) == ((100, 100), (100, 100), 100)


def test_held_out_holes_are_the_same_for_both() -> None:
    documents = [Document("one", "one/a.py", SOURCE)]
    holes = [hole for kind in KINDS for hole in draw_holes(documents, kind, 2, 0)]
    seen: tuple[list[Hole], list[Hole]] = ([], [])
    answers = iter([hole.answer for hole in holes])

    def full(hole: Hole) -> Fill:
        seen[0].append(hole)
        return Fill(next(answers))

    def int8(hole: Hole) -> Fill:
        seen[1].append(hole)
        return Fill("no")

    found = compare_heldout(holes, full, int8)
    assert seen[0] == seen[1]
    assert (found.n, found.passed, found.exact, found.same) == (len(holes), None, (100, 0), 0)


def compared(passed: tuple[float, float] | None, exact: tuple[float, float]) -> Comparison:
    return Comparison("lines", ENOUGH, passed, exact, (50.0, 50.0), 90.0, (2.0, 1.0))


def test_the_verdict_depends_on_the_worst_figure() -> None:
    fine, worse = compared((30, 30 - TOLERATED), (10, 12)), compared(None, (10, 8.5))
    assert verdict([compared((30, 31), (10, 10))]).startswith("int8 loses nothing, within 1")
    assert "loses 1.0 points at most (pass@1, lines)" in verdict([fine])
    assert verdict([fine, worse]).startswith("int8 loses 1.5 points (exact, lines)")
    assert "full weights stay the default" in verdict([fine, worse])
    few = replace(fine, holes="some", n=ENOUGH - 1)
    assert verdict([fine, few]).startswith("Too few holes to decide anything (some: 99;")


def test_the_table_has_each_figure_for_both() -> None:
    rows = comparison_table([compared((30, 29), (10, 8.5)), compared(None, (1, 1))])
    assert rows[2] == "| lines (100) | 30.0 / 29.0 | 10.0 / 8.5 | 50.0 / 50.0 | 90.0 | 2.0 / 1.0 |"
    assert rows[3].startswith("| lines (100) |  | 1.0 / 1.0 |")


def test_the_command_compares_a_checkpoint_with_itself_and_writes_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, heldout, tasks = tmp_path / "model", tmp_path / "h.jsonl.gz", tmp_path / "t.jsonl.gz"
    write_tiny_checkpoint(model)
    (model / "README.md").write_text("# Card\n<!-- weights -->\nold\n<!-- /weights -->\nend\n")
    document = {"project": "one", "path": "one/a.py", "text": SOURCE}
    for path, record in ((heldout, document), (tasks, asdict(DOUBLE))):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    options = ["--heldout", str(heldout), "--humaneval", str(tasks), "--per-kind", "1", "--write"]
    assert main(["--model", str(model), *options]) == 0
    said = capsys.readouterr().out
    assert "| t (1) |" in said
    assert "| held-out projects (5) |" in said
    assert "Mode `ar`. Too few holes" in said
    card = (model / "README.md").read_text()
    assert said.strip() in card
    assert "old" not in card
    assert card.endswith("\nend\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [([], "nothing to compare on"), (["--heldout", "no.jsonl.gz"], "no.jsonl.gz")],
)
def test_invalid_input_is_a_one_line_error(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(write_tiny_checkpoint(tmp_path)), *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert said in errors[-1]
    assert errors[-1].startswith("error: ")
