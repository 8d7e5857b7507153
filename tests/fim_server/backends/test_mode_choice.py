"""The measured meaning of mode `auto` holds for the weights, processor and torch of its time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fim_model.decoding.auto import ModeChoice
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.backends import mode_choice
from fim_server.backends.mode_choice import choice_file, keep_choice, kept_choice, measured_choice
from fim_server.commands import doctor
from fim_server.settings.settings import Settings

MEASURED = ModeChoice("diffusion", rule="leftmost:1", block_size=4)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model with a measured choice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = str(write_tiny_checkpoint(tmp_path / "model"))
    keep_choice(folder, MEASURED)
    return folder


def test_a_choice_is_kept(model: str) -> None:
    assert measured_choice(model) == MEASURED
    [finding] = doctor.mode(Settings(model=model))
    assert (finding.verdict, finding.message) == (
        "ok", "auto is diffusion, as bench modes has measured",
    )  # fmt: skip


def test_nothing_measured_is_the_default_choice(tmp_path: Path, model: str) -> None:
    other = str(write_tiny_checkpoint(tmp_path / "other"))
    for name in (other, str(tmp_path / "absent"), "some/model", None):
        assert measured_choice(name) == ModeChoice()
    assert not list(doctor.mode(Settings(model=other)))


@pytest.mark.parametrize("changed", ["weights", "cpu", "torch", "older file"])
def test_a_choice_of_something_else_is_ignored_and_doctor_says_so(
    model: str, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if changed == "weights":
        weights = Path(model) / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-64] + bytes(byte ^ 1 for byte in content[-64:]))
    elif changed == "cpu":
        monkeypatch.setattr(mode_choice, "processor_name", lambda: "another processor")
    elif changed == "torch":
        monkeypatch.setattr(mode_choice.metadata, "version", lambda name: "0.0")
    else:
        kept = json.loads(choice_file(model).read_text())
        del kept["measured_on"]
        choice_file(model).write_text(json.dumps(kept))
    assert kept_choice(model) is None
    assert measured_choice(model) == ModeChoice()
    [finding] = doctor.mode(Settings(model=model))
    assert finding.verdict == "warn"
    assert "auto is adaptive" in finding.message
    assert finding.fix.endswith(f"--model {model}")


@pytest.mark.parametrize("content", ["", "[]", "null", '{"mode": 3', '{"rule": "no such rule"}'])
def test_an_unfit_file_is_ignored(model: str, content: str) -> None:
    choice_file(model).write_text(content)
    assert measured_choice(model) == ModeChoice()
