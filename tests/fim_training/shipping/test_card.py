"""The model card's scores: measured with a known filler, written between markers."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
from fim_model.loading.checkpoint import default_checkpoint
from fim_training.evaluation.filler import Fill, Hole
from fim_training.evaluation.heldout import evaluate
from fim_training.evaluation.heldout_holes import KINDS, Document, draw_holes
from fim_training.shipping.card import (
    FAILURES,
    beside_table,
    failures,
    heldout_table,
    language_table,
    main,
    write_card,
)
from small_tasks import DOUBLE
from tiny_checkpoint import write_tiny_checkpoint

BEGIN, END = "<!-- scores -->", "<!-- /scores -->"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    rng = Random(0)
    names = ["alpha", "beta", "gamma", "delta"]
    lines = [
        f"{rng.choice(names)}_{i} = {rng.choice(names)}({i}, 'some | text')" for i in range(90)
    ]
    return [Document("one", "one/a.py", "\n".join(lines) + "\n")]


def wrong(hole: Hole) -> Fill:
    return Fill("no", finish="eom")


def test_a_table_has_a_row_per_kind_and_group(documents: list[Document]) -> None:
    holes = [hole for kind in KINDS for hole in draw_holes(documents, kind, 5, 0)]
    answers = iter([hole.answer for hole in holes])
    right = heldout_table(evaluate(holes, lambda hole: Fill(next(answers))))
    assert [row.split(" | ")[0].strip("| *") for row in right[2:]] == [
        "line", "rest of line", "mid word", "span", "multi line", "one line", "overall"
    ]  # fmt: skip
    assert all(row.split(" | ")[2] == "100.0" for row in right[2:])
    missed = heldout_table(evaluate(holes, wrong))
    assert all(row.split(" | ")[2] == "0.0" for row in missed[2:])
    assert all(row.count(" | ") == right[0].count(" | ") for row in right[2:])


def test_other_languages_have_a_row_if_there_is_enough_data(documents: list[Document]) -> None:
    typescript = [Document("two", f"two/{number}.ts", documents[0].text) for number in range(3)]
    lua = [Document("three", "three/a.lua", "x = 1\n")]
    rows = language_table([*documents, *typescript, *lua], wrong, 4)
    assert [row.split(" | ")[:3] for row in rows[2:]] == [["| typescript", "1", "12"]]
    assert rows[2].split(" | ")[3] == "0.0"
    assert rows[2].count(" | ") == rows[0].count(" | ")


def test_other_checkpoints_are_scored_on_the_same_holes(documents: list[Document]) -> None:
    holes = [hole for kind in KINDS for hole in draw_holes(documents, kind, 4, 0)]
    answers = iter([hole.answer for hole in holes])
    rows = beside_table(
        holes, evaluate(holes, wrong), {"knows": lambda hole: Fill(next(answers), finish="eom")}
    )
    assert rows[2].startswith("| this one | 0.0 | ")
    assert rows[3] == "| knows | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |"
    assert next(answers, None) is None


def test_failures_are_shown_verbatim(documents: list[Document]) -> None:
    rows = failures(documents, wrong, seed=0)
    assert len(rows) == FAILURES + 2
    assert all(row.endswith("| `no` |") for row in rows[2:])
    assert any("\\|" in row for row in rows[2:]), "a bar would end the cell"


@pytest.fixture
def data(tmp_path: Path, documents: list[Document]) -> list[str]:
    """Arguments for a tiny model, with held-out files and one problem."""
    write_tiny_checkpoint(tmp_path / "model")
    with gzip.open(tmp_path / "heldout.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps(asdict(document)) + "\n" for document in documents)
    with gzip.open(tmp_path / "problems.jsonl.gz", "wt") as lines:
        lines.write(json.dumps(asdict(DOUBLE)) + "\n")
    files = ["--heldout", f"{tmp_path}/heldout.jsonl.gz"]
    files += ["--humaneval", f"{tmp_path}/problems.jsonl.gz"]
    return ["--model", f"{tmp_path}/model", *files, "--per-kind", "1", "--threads", "1"]


def test_figures_are_said_as_they_are_measured_in_the_chosen_modes(
    data: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*data, "--modes", "ar, lookup"]) == 0
    printed = capsys.readouterr()
    ways = ("ar", "lookup", "ar, with copies")
    for way in ways:
        assert f"problems, {way}: pass@1 0.0 %, exact 0.0 %" in printed.err
        assert f"| problems (1) | {way} | 0.0 | 0.0 |" in printed.out
    assert printed.out.count("| problems (1) |") == len(ways)
    assert "held-out projects, one line (3): exact 0.0 %" in printed.err


def test_a_mode_that_the_model_lacks_is_refused(
    data: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*data, "--modes", "ar,quick"]) == 2
    assert "error: --modes: no quick; this model has " in capsys.readouterr().err


def test_scores_replace_the_text_between_the_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Card\n{BEGIN}\nold\n{END}\nend\n")
    for text in ("first", "second"):
        write_card(readme, text)
    assert readme.read_text() == f"# Card\n{BEGIN}\n\nsecond\n\n{END}\nend\n"


@pytest.mark.parametrize("card", [None, "# Card\n", f"{BEGIN}\n"])
def test_a_card_without_markers_is_unchanged(tmp_path: Path, card: str | None) -> None:
    readme = tmp_path / "README.md"
    if card is not None:
        readme.write_text(card)
    with pytest.raises(ValueError, match=r"README\.md needs a line <!-- scores -->"):
        write_card(readme, "text")
    assert (readme.read_text() if readme.exists() else None) == card


def test_invalid_input_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(tmp_path / "nowhere"), "--heldout", "none.jsonl.gz"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "nowhere" in said
    assert said.count("\n") == 1


def test_a_checkpoint_to_compare_needs_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--heldout", "none.jsonl.gz", "--beside", str(tmp_path)]
    assert main(["--model", str(default_checkpoint()), *arguments]) == 2
    assert "--beside needs NAME=FOLDER" in capsys.readouterr().err
