"""`fim-server eval gate` from end to end: holes, answers in a file, figures, the written file."""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from pathlib import Path

import pytest
from fim_model.calibration.confidence import Calibration
from fim_model.loading.checkpoint import default_checkpoint

from fim_server.cli import main
from fim_server.completion.evidence import FEATURES


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two projects of accessors, which a model gets right, and of values, which it cannot know."""
    path = tmp_path_factory.mktemp("data") / "heldout.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for project in ("shapes", "orders"):
            for number in range(6):
                text = "class Record:\n" + "\n".join(
                    f"    def get_{name}(self) -> int:\n        return self._{name}\n\n"
                    f"    def code_of_{name}(self) -> int:\n"
                    f"        return {hash_of(project, number, name)}\n"
                    for name in ("width", "height", "depth", "colour", "weight", "volume")
                )
                record = {"project": project, "path": f"{project}/{number}.py", "text": text}
                lines.write(json.dumps(record) + "\n")
    return path


def hash_of(*parts: object) -> int:
    """The same unguessable number at every call."""
    return zlib.crc32(repr(parts).encode())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return shutil.copytree(default_checkpoint(), tmp_path / "checkpoint")


def test_a_checkpoint_is_calibrated_and_its_answers_are_kept(
    heldout: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers.jsonl"
    command = ["eval", "gate", "--data", str(heldout), "--model", str(checkpoint), "--threads", "1"]
    command += ["--per-kind", "8", "--answers", str(answers)]
    assert main([*command, "--json", "--write"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gate"]["n"] == report["confidence"]["n"] == 24
    assert list(report["gate"]["ways"]) == ["model", "gate", "gate and alternatives"]
    kept = Calibration.read(checkpoint)
    assert kept is not None
    assert kept.gate is not None
    assert set(kept.gate.weights) == FEATURES
    assert kept.show_above == pytest.approx(report["confidence"]["show_above"], abs=1e-4)

    lines = answers.read_text().splitlines()
    assert len(lines) >= 25
    (checkpoint / "tokenizer.json").touch()
    assert main(command) == 0
    assert "decided by" in capsys.readouterr().out
    assert answers.read_text().splitlines() == lines  # nothing was asked again


def test_bad_input_is_named(
    heldout: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "gate", "--data", str(heldout), "--model"]
    assert main([*command, str(tmp_path)]) == 2
    assert "config.json cannot be read" in capsys.readouterr().err
    (tmp_path / "notes").write_text("notes\n")
    assert main([*command, str(checkpoint), "--answers", str(tmp_path / "notes")]) == 2
    assert "delete it, or give another --answers" in capsys.readouterr().err
    assert main(["eval", "gate", "--data", str(tmp_path / "no.gz"), "--model", "x"]) == 2
    assert "no such file" in capsys.readouterr().err
