"""The scaling experiment: equal compute for every size, and one table."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_training.trainer.scaling import _flops, main, same_compute, shaped
from fim_training.trainer.train_config import TrainConfig


@pytest.fixture
def toml(tiny: Any, tiny_tokenizer_file: Path, tmp_path: Path) -> Path:
    for split in ("train", "heldout"):
        with gzip.open(tmp_path / f"{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
            for file in tiny.files:
                row = {"project": "shapes", "path": file.path, "text": file.text}
                lines.write(json.dumps(row) + "\n")
    path = tmp_path / "a.toml"
    path.write_text(
        f'corpus = "{tmp_path}"\ntokenizer = "{tiny_tokenizer_file}"\nout = "{tmp_path / "out"}"\n'
        "steps = 1\nrows = 2\nlength = 64\nnoisy_blocks = 2\nblock_size = 4\nthreads = 1\n"
        "compile = false\nwarmup = 1\n"
    )
    return path


def test_every_size_gets_equal_compute(toml: Path, tiny_tokenizer: CodeTokenizer) -> None:
    config = TrainConfig.read(toml)
    runs = [shaped(config, size) for size in ("128x6", "64x2", "256x8")]
    models = [run.model(tiny_tokenizer) for run in runs]
    equal = same_compute(runs, models, tokens=2_000_000)
    assert equal[1].steps == 2_000_000 // (2 * 64)
    spent = [run.steps * _flops(run, model) for run, model in zip(equal, models, strict=True)]
    assert spent == pytest.approx([spent[0]] * 3, rel=0.01)


def test_the_experiment_writes_a_table(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(toml), "--sizes", "64x1,128x1", "--tokens", "512"]
    assert main(given) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert [row["size"] for row in rows] == ["64x1", "128x1"]
    assert rows[0]["steps"] == 4
    assert rows[1]["steps"] < 4
    assert all(0 < row["held_out_ar"] < 10 for row in rows)
    assert (tmp_path / "out" / "scaling.md").read_text() == printed
    assert len(printed.splitlines()) == 4


@pytest.mark.parametrize("size", ["big", "100x2", "64x0", "64"])
def test_an_invalid_size(size: str, toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(toml), "--sizes", size, "--tokens", "512"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
