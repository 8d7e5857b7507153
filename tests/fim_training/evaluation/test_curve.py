"""The learning curve of a run: one line per kept checkpoint, without duplicates."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from fim_training.evaluation import curve
from tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with two kept checkpoints and an unrelated entry."""
    for name in ("1000k", "2000k"):
        write_tiny_checkpoint(tmp_path / "run" / "checkpoints" / name)
    (tmp_path / "run" / "checkpoints" / "latest").mkdir()
    return tmp_path / "run"


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    body = "\n".join(f"def number_{i}(value):\n    return value + {i}\n" for i in range(40))
    path = tmp_path / "heldout.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"project": "p", "path": "p/a.py", "text": body}) + "\n")
    return path


def lines(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / curve.CURVE).read_text().splitlines()]


def test_each_checkpoint_is_scored_once_the_oldest_first(run: Path, held_out: Path) -> None:
    given = ["--run", str(run), "--held-out", str(held_out), "--per-kind", "2", "--threads", "1"]
    assert curve.main(given) == 0
    assert [line["thousand_tokens"] for line in lines(run)] == [1000, 2000]
    assert lines(run)[0]["held_out"]["line"]["n"] == 2  # type: ignore[index]
    assert curve.main(given) == 0
    assert len(lines(run)) == 2


def test_a_missing_benchmark_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curve.main(["--run", str(run), "--benchmark", str(tmp_path / "none.gz")]) == 2
    assert "none.gz" in capsys.readouterr().err
