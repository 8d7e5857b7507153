"""Averages of checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from fim_model.loading.checkpoint import load_model, save_checkpoint
from fim_model.loading.headers import TOKENIZER
from fim_training.shipping.average import average, main
from tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture
def states(tmp_path: Path) -> tuple[Path, Path]:
    """Two states of one model; every weight of the second is greater by one."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_tiny_checkpoint(first)
    model = load_model(first)
    for parameter in model.parameters():
        parameter.data = parameter.data + 1.0
    save_checkpoint(model, second, dtype=torch.float32)
    shutil.copyfile(first / TOKENIZER, second / TOKENIZER)
    return first, second


def test_each_weight_counts_by_its_share(states: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = states
    out = tmp_path / "mean"
    assert main([str(first), f"{second}=3", "--out", str(out)]) == 0
    before, found = load_model(first), load_model(out)
    for (name, old), new in zip(before.named_parameters(), found.parameters(), strict=True):
        assert torch.allclose(new.float(), old.float() + 0.75, atol=2e-2), name
    assert (out / TOKENIZER).read_bytes() == (first / TOKENIZER).read_bytes()


def test_a_licence_that_one_of_them_has_is_passed_on(
    states: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = states
    (second / "LICENSE.base").write_text("Apache License 2.0")
    (second / "provenance.json").write_text("{}")
    assert main([str(first), str(second), "--out", str(tmp_path / "mean")]) == 0
    assert (tmp_path / "mean" / "LICENSE.base").read_text() == "Apache License 2.0"
    assert (tmp_path / "mean" / "provenance.json").exists()


def test_the_checkpoints_stay_as_they_are(states: tuple[Path, Path]) -> None:
    before = [path.read_bytes() for path in sorted(states[0].iterdir())]
    average({states[0]: 1.0, states[1]: 1.0})
    assert [path.read_bytes() for path in sorted(states[0].iterdir())] == before


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (["first"], "at least two"),
        (["first", "second=0"], "must be positive"),
        (["first", "second=much"], "must be a number, not 'much'"),
        (["first", "missing"], "missing"),
        (["missing", "first"], "missing"),
        (["first", "other"], "another shape or tokenizer than"),
    ],
)
def test_clear_errors(
    states: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    shares: list[str], said: str,
) -> None:  # fmt: skip
    other = write_tiny_checkpoint(tmp_path / "other")
    tokenizer = json.loads((other / TOKENIZER).read_text())
    tokenizer["model"]["merges"].pop()
    (other / TOKENIZER).write_text(json.dumps(tokenizer))
    assert main([*(f"{tmp_path}/{share}" for share in shares), "--out", f"{tmp_path}/out"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
