"""`doctor` and `stats`: every finding has a verdict, and every problem a fix."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapters import random_matrices, write_adapter
from fim_model.loading.adapters import base_digest
from fim_model.loading.checkpoint import load_model
from fim_model.requests import ADAPTER_FILE
from fim_training.tuning.tuning_job import JobState, TuningJob
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.cli import main
from fim_server.commands import doctor
from fim_server.commands.doctor_adapters import adapters
from fim_server.commands.findings import Finding
from fim_server.completion.statistics import Statistics, statistics_file
from fim_server.settings.settings import Settings
from fim_server.settings.sources import config_file


def report(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(("doctor", "--json"))
    return code, json.loads(capsys.readouterr().out)


def by_topic(answer: dict[str, Any], topic: str) -> list[dict[str, str]]:
    return [finding for finding in answer["findings"] if finding["topic"] == topic]


def set_model(model: object) -> Path:
    file = config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"model = {json.dumps(str(model))}\nmaxLines = 0\n")
    return file


def test_a_good_model_and_a_mistake_in_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    file = set_model(folder)
    try:
        code, answer = report(capsys)
        assert main(("doctor",)) == code
        people = capsys.readouterr().out
    finally:
        file.unlink()
    assert (code, answer["ok"]) == (0, True)
    [model] = by_topic(answer, "model")
    assert model["verdict"] == "ok"
    assert model["message"].startswith(f"{folder}: ministral3, ")
    [settings] = by_topic(answer, "settings")
    assert settings["verdict"] == "warn"
    assert "setting maxLines: 0 is not used" in settings["message"]
    assert settings["fix"] == f"correct {file}"
    assert by_topic(answer, "device")[0]["message"].startswith("torch ")
    assert by_topic(answer, "syntax")[0]["message"] == "grammars for 9 languages"
    for finding in answer["findings"]:
        assert (finding["fix"] == "") == (finding["verdict"] == "ok"), finding
        assert finding["topic"] == "memory" or finding["message"] in people, (
            "memory changes meanwhile"
        )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_checkpoint_that_lacks_something_fails(tmp_path: Path, name: str) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    (folder / name).unlink()
    [finding] = doctor.model(Settings(model=str(folder)))
    assert finding.verdict == "fail"
    assert finding.fix


def test_missing_packages_fail_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "torch" else object())
    finding = next(
        finding for finding in doctor.environment(Settings()) if finding.verdict == "fail"
    )
    assert finding.message == "a local model needs torch"
    assert finding.fix == "pip install 'fim-server[local]'"


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_mib", lambda: 200)
    [finding] = doctor.memory(Settings())
    assert (finding.verdict, finding.message) == ("warn", "only 200 MiB are free")


def test_the_folder_that_belongs_on_path_is_where_uv_and_pipx_link_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    own, *_ = doctor.editors(Settings())
    assert own.verdict == "warn"
    assert str(Path(sys.executable).parent) in own.fix
    tools = tmp_path / ".local" / "bin"
    tools.mkdir(parents=True)
    (tools / "fim-server").touch()
    linked, *_ = doctor.editors(Settings())
    assert linked.fix == f"add {tools} to PATH, or give editors the full path"


def test_stats_adds_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(("stats",)) == 0
    assert "nothing counted yet" in capsys.readouterr().out
    for _ in range(2):
        counted = Statistics(statistics_file())
        counted.count("requests", 3)
        counted.count("characters", 40)
        counted.count("silence.blank")
        counted.flush()
    assert main(("stats", "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["total"] == {"requests": 6, "characters": 80, "silence.blank": 2}
    assert main(("stats",)) == 0
    assert "blank 2" in capsys.readouterr().out


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and a data folder of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return write_tiny_checkpoint(tmp_path / "tiny")


def tuned(model: Path, workspace: Path, *, base: str = "", scale: float = 0.4) -> Path:
    """The folder of a workspace's adapter, which is for the model unless a base is given."""
    folder = adapters_folder() / adapter_name(workspace)
    matrices = random_matrices(load_model(model), 0, scale)
    write_adapter(folder, matrices, base or base_digest(model))
    TuningJob(folder).write(JobState(str(workspace)))
    return folder


def test_what_was_tuned_and_whether_it_fits(tiny: Path, tmp_path: Path) -> None:
    for name in ("fits", "another base", "truncated", "infinite"):
        (tmp_path / name).mkdir()
    tuned(tiny, tmp_path / "fits")
    tuned(tiny, tmp_path / "another base", base="another")
    truncated = tuned(tiny, tmp_path / "truncated") / ADAPTER_FILE
    truncated.write_bytes(truncated.read_bytes()[:-9])
    tuned(tiny, tmp_path / "infinite", scale=float("inf"))
    settings = Settings(model=str(tiny))
    found = {Path(f.message.partition(":")[0]).name: f for f in adapters(settings)}
    assert found["fits"] == Finding("adapters", "ok", f"{tmp_path}/fits: tuned")
    for name, why in (
        ("another base", "tuned for another model"),
        ("truncated", "damaged"),
        ("infinite", "not all finite"),
    ):
        assert found[name].verdict == "warn"
        assert why in found[name].message
        assert "not used" in found[name].message
    quoted = f"'{tmp_path}/another base'"
    assert found["another base"].fix == (
        f"fim-server tune {quoted}, or fim-server tune {quoted} --remove"
    )
    for unused in (replace(settings, adapter=False), replace(settings, backend="openai")):
        [off] = adapters(unused)
        assert "4, not used" in off.message


def test_an_adapter_of_a_folder_that_is_gone_is_told(tiny: Path, tmp_path: Path) -> None:
    folder = tuned(tiny, tmp_path / "gone")
    [gone] = adapters(Settings(model=str(tiny)))
    assert gone.verdict == "warn"
    assert "the folder is gone" in gone.message
    assert gone.fix == f"fim-server tune {folder.name} --remove"
    assert main(gone.fix.split()[1:]) == 0
    assert not list(adapters(Settings(model=str(tiny))))


def test_adapters_of_a_model_that_cannot_be_looked_at(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    tuned(tiny, tmp_path / "project")
    [unknown] = adapters(Settings(model="someone/never-downloaded"))
    assert unknown.verdict == "ok"
    assert "shows once it is loaded" in unknown.message
    (tiny / "config.json").write_text("[")
    [unreadable] = adapters(Settings(model=str(tiny)))
    assert unreadable.verdict == "warn"
