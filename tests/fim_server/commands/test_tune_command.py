"""`fim-server tune` as users run it: in the background, paused, resumed, stopped, removed.

The command runs in processes of its own: it lowers its priority, which cannot be taken back.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fim_model.requests import ADAPTER_FILE
from fim_training.tuning.measured import HoleResult, Measured
from fim_training.tuning.tuning_job import JobState, Phase, TuningJob
from fim_training.tuning.verdict import against_earlier, report
from git_clones import git
from tiny_checkpoint import write_tiny_checkpoint
from workspaces import NAMES, SECRET, write_workspace

from fim_server.access.editor_rules import EditorRules, record_rules
from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.cli import main
from fim_server.commands.tune import report_lines, status_lines
from fim_server.commands.tune_work import _data
from fim_server.settings.settings import Settings
from fim_server.settings.sources import config_file

pytestmark = pytest.mark.timeout(600)


class Home:
    """A workspace, a tiny model, and folders of its own for what the command keeps."""

    def __init__(self, folder: Path) -> None:
        self.data, self.workspace = folder / "data", write_workspace(folder / "project")
        self.model = write_tiny_checkpoint(folder / "tiny")
        self.job = self.data / "fim-server" / "adapters" / adapter_name(self.workspace)
        self.environment = {
            **os.environ,
            "XDG_DATA_HOME": str(self.data),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    def tune(self, *options: str, code: int = 0) -> str:
        """The output of the command, which must end with this exit code."""
        command = [sys.executable, "-m", "fim_server", "tune", str(self.workspace), *options]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.tune("--status", "--json"))
        return found

    def wait(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not reached(status := self.status()):
            assert status["running"], (self.job / "tune.log").read_text()
            time.sleep(0.5)
        return status


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("tune"))


def test_a_job_is_paused_resumed_and_stopped(home: Home) -> None:
    assert "not tuned" in home.tune("--status")
    model = ("--model", str(home.model), "--threads", "1", "--holes", "2")
    said = home.tune("--hours", "5", *model)
    assert "in the background" in said
    status = home.wait(lambda status: status["job"]["trained"] > 0)
    assert status["job"]["phase"] == "training"
    assert status["job"]["seconds_left"] > 3600, "of five hours of training"
    assert "is being tuned already" in home.tune(*model, code=2)
    assert "training" in home.tune("--status")
    [texts] = home.job.glob("work/corpus/train.jsonl.gz")
    assert stat.S_IMODE(texts.stat().st_mode) == 0o600
    home.tune("--pause")
    paused = home.status()
    assert (paused["running"], paused["job"]["phase"]) == (False, "paused")
    home.tune("--resume", "--threads", "1")
    again = home.wait(lambda status: status["job"]["trained"] > paused["job"]["trained"])
    assert again["job"]["model"] == str(home.model), "the one it began with"
    home.tune("--stop")
    stopped = home.status()
    assert (stopped["running"], stopped["adapter"]) == (False, False)
    assert not (home.job / "work").exists()
    assert "nothing is paused" in home.tune("--resume", code=2)


def test_a_killed_job_is_resumed(home: Home) -> None:
    home.tune("--hours", "5", "--model", str(home.model), "--threads", "1", "--holes", "2")
    began = home.wait(lambda status: status["job"]["phase"] in ("before", "training"))
    os.kill(began["job"]["pid"], signal.SIGKILL)
    while home.status()["running"]:
        time.sleep(0.1)
    assert "is not being tuned" in home.tune("--pause", code=2)
    assert home.status()["job"]["pid"] > 0
    home.tune("--resume", "--threads", "1")
    assert home.status()["running"]
    stopped = json.loads(home.tune("--stop", "--json").partition("}}\n")[0] + "}}")
    assert (stopped["running"], stopped["job"]["phase"]) == (False, "waiting")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"workspace": 1}',
        '{"workspace": "/x", "phase": "no"}',
        "[" * 100_000,
        '{"workspace": "/x", "hours": "1"}',
        '{"workspace": "/x", "report": 3}',
        '{"workspace": "/x", "hours": NaN}',
        '{"workspace": "/x", "holes": 0}',
    ],
)
def test_a_damaged_state_is_none_and_the_adapter_is_still_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    job = TuningJob(adapters_folder() / adapter_name(tmp_path))
    job.write(JobState(str(tmp_path)))
    (job.folder / "tune.json").write_text(text)
    (job.folder / ADAPTER_FILE).touch()
    assert main(["tune", str(tmp_path), "--status"]) == 0
    assert "there is an adapter" in capsys.readouterr().out


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of adapters, which are kept for folders that may be gone."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return adapters_folder()


def kept(workspace: Path, phase: Phase = "done") -> TuningJob:
    """A job of a folder, with an adapter."""
    job = TuningJob(adapters_folder() / adapter_name(workspace))
    job.write(JobState(str(workspace), phase=phase))
    (job.folder / ADAPTER_FILE).touch()
    return job


@pytest.mark.parametrize("by_name", [False, True])
def test_the_adapter_of_a_folder_that_is_gone_can_be_shown_and_removed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, by_name: bool
) -> None:
    gone = tmp_path / "gone"
    job = kept(gone, "paused")
    called = job.folder.name if by_name else str(gone)
    assert main(["tune", called, "--status"]) == 0
    assert f"{gone}: paused" in capsys.readouterr().out
    job.work.mkdir()
    assert main(["tune", called, "--stop"]) == 0
    assert not job.work.exists()
    assert main(["tune", called]) == main(["tune", called, "--resume"]) == 2
    assert "not a folder" in capsys.readouterr().err
    assert main(["tune", called, "--remove"]) == 0
    assert not job.folder.exists()
    assert main(["tune", called, "--remove"]) == 2
    assert "nothing is kept of one" in capsys.readouterr().err
    assert list(data.iterdir()) == []


def test_the_adapter_of_a_job_without_a_state_is_removed_by_its_name(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = kept(tmp_path / "gone")
    (job.folder / "tune.json").unlink()
    assert main(["tune", "--list"]) == 0
    assert f"{job.folder.name}  of an unknown folder: adapter\n" == capsys.readouterr().out
    assert main(["tune", job.folder.name, "--remove"]) == 0
    assert not job.folder.exists()


def test_all_adapters_are_listed_with_their_folders(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--list"]) == 0
    assert capsys.readouterr().out == "nothing was tuned\n"
    here, gone = kept(tmp_path), kept(tmp_path / "gone")
    (gone.folder / ADAPTER_FILE).unlink()
    (data / "something else").mkdir()
    with here.held():
        assert main(["tune", "--list"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(
        [
            f"{here.folder.name}  {tmp_path}: adapter, a job is running",
            f"{gone.folder.name}  {tmp_path}/gone: no adapter, the folder is gone: "
            f"fim-server tune {gone.folder.name} --remove",
        ]
    )
    assert main(["tune", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["adapters"]
    assert {(entry["workspace"], entry["gone"]) for entry in listed} == {
        (str(tmp_path), False), (f"{tmp_path}/gone", True),
    }  # fmt: skip


@pytest.mark.parametrize("action", ["--stop", "--remove"])
def test_a_start_between_the_look_and_the_deed_loses_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    job = kept(tmp_path, "paused")
    job.work.mkdir()
    monkeypatch.setattr(TuningJob, "running", False)
    with job.held():
        assert main(["tune", str(tmp_path), action]) == 2
        assert job.work.exists()
        assert job.has_adapter
        assert job.state is not None
        assert job.state.phase == "paused"


@pytest.mark.parametrize("configured", [False, True])
def test_a_relative_model_is_found_from_every_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, configured: bool
) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (project := tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    if configured:
        config_file().parent.mkdir(parents=True)
        config_file().write_text('model = "models/tiny"\n')
    commands = []

    def refuse(command: list[str], **_: Any) -> Any:
        commands.append(command)
        raise OSError("not started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    given = [] if configured else ["--model", "models/tiny"]
    assert main(["tune", str(project), *given]) == 2
    state = TuningJob(data / adapter_name(project)).state
    assert state is not None
    assert state.model == str(tmp_path / "models" / "tiny")
    [command] = commands
    assert command[command.index("--model") + 1] == state.model


def test_a_report_without_figures_is_told(tmp_path: Path) -> None:
    state = JobState("/project", phase="done", report={"kept": True})
    assert "  the figures cannot be read" in status_lines(state, running=False, has_adapter=True)


def test_the_figures_of_the_adapter_that_was_in_use_are_told() -> None:
    base, new, old = (
        Measured(
            [HoleResult(i < right, 0.5, True) for i in range(200)], [HoleResult(True, 1, True)], []
        )
        for right in (50, 58, 70)
    )
    found = report(base, new)
    assert "    exact one-line answers           25.0   29.0   of 200" in report_lines(
        found.as_json(), 60
    )
    lines = report_lines(against_earlier(found, old, new).as_json(), 60)
    assert "    exact one-line answers           25.0   29.0   35.0   of 200" in lines
    assert lines[-1].startswith(
        "  not kept: compared with the adapter in use, completions get worse"
    )


def test_a_job_that_is_done_cannot_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    job = TuningJob(adapters_folder() / adapter_name(tmp_path))
    job.write(JobState(str(tmp_path), phase="done"))
    assert main(["tune", str(tmp_path), "--stop"]) == 2
    assert "is not being tuned" in capsys.readouterr().err
    assert job.state is not None
    assert job.state.phase == "done"


def test_nothing_of_a_running_job_is_touched_by_a_second_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one looks before the first one holds the job, and acts afterwards."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(TuningJob, "running", False)
    job = TuningJob(adapters_folder() / adapter_name(tmp_path))
    with job.held():
        job.write(JobState(str(tmp_path), phase="waiting", hours=7.0))
        job.work.mkdir()
        assert main(["tune", str(tmp_path), "--foreground"]) == 2
        assert job.work.exists()
        assert job.state is not None
        assert job.state.hours == 7.0


def test_a_job_runs_to_its_end_and_is_removed(home: Home) -> None:
    said = home.tune(
        "--foreground", "--hours", "0.0005", "--model", str(home.model), "--threads", "1",
        "--holes", "2",
    )  # fmt: skip
    assert "before and after, in %" in said
    status = home.status()
    assert status["job"]["phase"] == "done"
    assert status["job"]["report"]["kept"] is status["adapter"]
    assert status["job"]["report"]["general"] > 0
    for path in home.data.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    home.tune("--remove")
    assert not home.job.exists()
    assert "not tuned" in home.tune("--status")


def test_what_cannot_be_tuned_says_why(home: Home, tmp_path: Path) -> None:
    home.workspace, kept = tmp_path, home.workspace
    try:
        said = home.tune("--foreground", "--model", str(home.model), code=2)
        assert "too little to learn from" in said
        assert "too little to learn from" in home.tune("--status")
        assert "is not being tuned" in home.tune("--pause", code=2)
        home.workspace = tmp_path / "nothing"
        assert "not a folder" in home.tune(code=2)
    finally:
        home.workspace = kept


def test_a_job_that_was_killed_says_how_to_go_on() -> None:
    state = JobState("/project", phase="training", share=0.5, pid=1)
    [first, _] = status_lines(state, running=False, has_adapter=False)
    assert first == "/project: ended while training; go on with fim-server tune"
    starting = replace(state, phase="waiting", share=0.0)
    [first, _] = status_lines(starting, running=True, has_adapter=False)
    assert first == "/project: starting, 0% (process 1)"
    [first, _] = status_lines(state, running=True, has_adapter=False)
    assert first == "/project: training, 50% (process 1)"


def test_a_damaged_history_is_left_out(tmp_path: Path) -> None:
    workspace = write_workspace(tmp_path / "project")
    settings = Settings()
    assert _data(workspace, settings, lambda: None).held_out_edits
    for ref in ("HEAD~3^{tree}", "HEAD~4"):
        name = git(workspace, "rev-parse", ref).strip()
        (workspace / ".git" / "objects" / name[:2] / name[2:]).unlink()
    data = _data(workspace, settings, lambda: None)
    assert data.files
    assert not data.held_out_edits


def test_what_an_editor_excludes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    workspace = write_workspace(tmp_path / "project")

    def read() -> set[str]:
        data = str(_data(workspace, Settings(), lambda: None))
        return {name for name in NAMES if f"def {name}_total" in data}

    assert read() == set(NAMES)
    record_rules(workspace, "editor", EditorRules(str(workspace), ("alpha.py",), gitignore=True))
    assert read() == set(NAMES) - {"alpha"}


def test_each_file_and_each_change_of_the_history_is_a_chance_to_stop(tmp_path: Path) -> None:
    workspace = write_workspace(tmp_path / "project")
    asked = []
    data = _data(workspace, Settings(), lambda: asked.append(1))
    files = len(data.files) + len(data.held_out)
    assert len(asked) >= files + len(data.edits) + len(data.held_out_edits)

    class Stopped(Exception):
        pass

    def stop_in_the_history() -> None:
        asked.append(1)
        if len(asked) > files + 5:
            raise Stopped

    asked.clear()
    with pytest.raises(Stopped):
        _data(workspace, Settings(), stop_in_the_history)
    assert len(asked) == files + 6
