"""`fim-server models inspect`: its report of a checkpoint, without loading weights or torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.cli import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    write_tiny_checkpoint(folder)
    return folder


def test_the_report_describes_the_checkpoint(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "inspect", str(checkpoint), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    raw = json.loads((checkpoint / "config.json").read_text())
    assert report["family"] == "ministral3"
    assert report["layers"] == raw["num_hidden_layers"]
    assert report["window"] == raw["max_position_embeddings"]
    values = 2 * raw["num_hidden_layers"] * raw["num_key_value_heads"] * raw["head_dim"]
    assert report["kv_bytes_per_token"] == {"float32": 4 * values, "bfloat16": 2 * values}
    assert report["weight_bytes"]["float32"] == 4 * report["parameters"]
    assert report["weight_bytes"]["int8"] < report["weight_bytes"]["bfloat16"]
    assert report["modes"][0] == "adaptive"
    assert report["fim_verified"] is True
    assert "<|fim_suffix|> suffix <|fim_prefix|> prefix <|fim_middle|>" in report["fim_layout"]
    assert report["draft_lora"] is False


def test_the_parameter_count_equals_the_models(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fim_model.loading.checkpoint import load_model

    main(["models", "inspect", str(checkpoint), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == sum(p.numel() for p in load_model(checkpoint).parameters())


def test_the_text_output(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "inspect", str(checkpoint)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("family", "parameters", "memory", "self_speculation"))


def test_the_model_that_ships_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "inspect", "default", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["family"] == "ministral3"
    assert report["name"].endswith("default")


def test_no_weight_is_read_and_torch_is_not_imported(checkpoint: Path) -> None:
    script = f"""
import sys, safetensors
from fim_server.cli import main
assert main(["models", "inspect", {str(checkpoint)!r}, "--json"]) == 0
assert "torch" not in sys.modules, "torch was imported"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("config.json", "config.json: the file is missing"),
        ("model.safetensors", "there is no model.safetensors"),
        ("tokenizer.json", "no tokenizer at"),
    ],
)
def test_missing_files_are_named(
    tmp_path: Path, spoil: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_checkpoint(tmp_path)
    (tmp_path / spoil).unlink()
    assert main(["models", "inspect", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_export_writes_a_gguf_file(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gguf_files import write_own_checkpoint

    folder, out = write_own_checkpoint(tmp_path / "own"), tmp_path / "out.gguf"
    assert main(["models", "export", str(folder), str(out)]) == 0
    assert f"llama-server -m {out} --spm-infill" in capsys.readouterr().out
    assert main(["models", "export", str(folder), str(out), "--dtype", "q8_0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == out.stat().st_size
    assert (report["path"], report["precision"]) == (str(out), "q8_0")
    # Its tokenizer cuts words by a rule of this project.
    assert main(["models", "export", str(checkpoint), str(out)]) == 2
    assert "llama.cpp has no pre-tokenizer" in capsys.readouterr().err


def test_export_of_an_absent_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "export", str(tmp_path / "absent"), str(tmp_path / "out.gguf")]) == 2
    assert "absent" in capsys.readouterr().err
