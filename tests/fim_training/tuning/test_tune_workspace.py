"""A whole job on a tiny model: what it reads, writes and keeps, and how it goes on."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from fim_model.errors import CheckpointError, ConfigError
from fim_model.infiller import Infiller
from fim_model.loading.adapters import BASE, base_digest, read_adapter
from fim_model.loading.checkpoint import load_model
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE
from fim_training.examples.hunk_sequences import HunkSequence
from fim_training.tuning import tune_workspace
from fim_training.tuning.measured import Exam, Measured
from fim_training.tuning.tune_workspace import CANDIDATE, EARLIER, TuneOptions, tune
from fim_training.tuning.tuning_job import JobState, JobStopped, TuningJob
from fim_training.tuning.verdict import Report, report
from fim_training.tuning.workspace_data import WorkspaceData, workspace_data
from tiny_checkpoint import write_tiny_checkpoint
from workspaces import read_workspace, write_workspace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workspace(tmp_path_factory.mktemp("workspace") / "project")


def recall(infiller: Infiller, adapter: str, commit: HunkSequence) -> list[bool]:
    return [False] * (len(commit.hunks) - 1)


class Started:
    """A job in its folder, on the tiny model."""

    def __init__(self, folder: Path, workspace: Path, checkpoint: Path) -> None:
        self.job, self.workspace, self.checkpoint = TuningJob(folder / "job"), workspace, checkpoint
        self.job.write(JobState(str(workspace)))
        self.read = read_workspace
        self.options = TuneOptions(
            checkpoint, minutes=0.05, threads=1, device="cpu", holes_per_kind=2, rows=2, length=128
        )

    def run(self) -> Any:
        def load(adapters: Path) -> Infiller:
            return Infiller.load(self.checkpoint, adapters=adapters)

        with self.job.held():
            return tune(
                self.job, lambda obey: self.read(self.workspace), self.options, load, recall
            )


@pytest.fixture
def started(tmp_path: Path, workspace: Path, checkpoint: Path) -> Started:
    return Started(tmp_path, workspace, checkpoint)


def test_held_out_files_without_a_place_to_measure_with_are_refused(started: Started) -> None:
    def read_blank(workspace: Path) -> WorkspaceData:
        data = read_workspace(workspace)
        return replace(data, held_out=[replace(d, text="\n") for d in data.held_out])

    started.read = read_blank
    with pytest.raises(ValueError, match="no place to measure with"):
        started.run()
    assert not (started.job.work / "before.json").exists()


def test_a_job_measures_trains_and_decides(started: Started) -> None:
    found = started.run()
    job, state = started.job, started.job.state
    assert state is not None
    assert (state.phase, state.problem) == ("done", "")
    assert state.report == json.loads(json.dumps(found.as_json()))
    assert (found.holes, found.general, found.edits) == (6, 6, 9)
    assert not job.work.exists(), "the texts of the workspace are gone"
    assert job.has_adapter is found.kept


def test_an_adapter_that_is_better_is_kept_and_private(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def better(before: Any, after: Any, seed: int) -> Any:
        seen.append((before, after))
        return replace(report(before, after, seed), kept=True)

    monkeypatch.setattr(tune_workspace, "report", better)
    started.run()
    assert len(seen) == 1
    model = load_model(started.checkpoint)
    adapter = read_adapter(started.job.folder, model.config, base_digest(started.checkpoint))
    assert any(update.up.abs().max() > 0 for update in adapter.heads), "it learned"
    for path in started.job.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(started.job.folder.stat().st_mode) == 0o700


def asked_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The adapters that are measured from now on, in this order."""
    asked: list[str] = []
    taken = Exam.taken

    def noting(self: Any, infiller: Any, adapter: str, *rest: Any) -> Any:
        asked.append(adapter)
        return taken(self, infiller, adapter, *rest)

    monkeypatch.setattr(Exam, "taken", noting)
    return asked


def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every adapter be better than the model alone."""
    monkeypatch.setattr(
        tune_workspace, "report", lambda *states: replace(report(*states), kept=True)
    )


def test_an_adapter_in_use_is_measured_and_stays_unless_the_new_one_is_as_good(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_all(monkeypatch)
    asked = asked_of(monkeypatch)
    assert started.run().earlier is None
    assert asked == ["", CANDIDATE], "there was none"
    seen: list[Measured] = []

    def worse(found: Report, earlier: Measured, after: Measured, seed: int) -> Report:
        seen.append(earlier)
        assert earlier is not after
        return replace(found, kept=False)

    first = (started.job.folder / ADAPTER_FILE).read_bytes()
    started.options = replace(started.options, seed=1)
    monkeypatch.setattr(tune_workspace, "against_earlier", worse)
    assert not started.run().kept
    assert asked[2:] == ["", CANDIDATE, EARLIER]
    assert [len(earlier.holes) for earlier in seen] == [6]
    assert (started.job.folder / ADAPTER_FILE).read_bytes() == first
    monkeypatch.setattr(tune_workspace, "against_earlier", lambda found, *rest: found)
    assert started.run().kept
    assert (started.job.folder / ADAPTER_FILE).read_bytes() != first


def test_an_adapter_of_another_model_is_not_measured_but_replaced(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_all(monkeypatch)
    started.run()
    described = json.loads((started.job.folder / ADAPTER_CONFIG).read_text())
    (started.job.folder / ADAPTER_CONFIG).write_text(json.dumps(described | {BASE: "other"}))
    asked = asked_of(monkeypatch)
    assert started.run().kept
    assert asked == ["", CANDIDATE]


def test_an_adapter_that_is_not_kept_anyway_is_not_compared_with_the_one_in_use(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement takes minutes."""
    with monkeypatch.context() as patch:
        keep_all(patch)
        started.run()
    asked = asked_of(monkeypatch)
    monkeypatch.setattr(
        tune_workspace, "report", lambda *states: replace(report(*states), kept=False)
    )
    started.run()
    assert asked == ["", CANDIDATE]


def test_training_that_gave_no_usable_adapter_fails_with_the_reason(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(tune_workspace.Run):
        def save(self) -> None:
            for update in self.model.parameters():
                if update.requires_grad:
                    update.data.fill_(float("nan"))
            super().save()

    asked = asked_of(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(tune_workspace, "Run", Diverging)
        with pytest.raises(CheckpointError, match="not all finite"):
            started.run()
    assert asked == [""], "what it would be measured with is the model alone"
    assert started.run().holes == 6
    assert asked == ["", CANDIDATE], "the next start trains anew"


def test_a_paused_job_goes_on_where_it_was(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read_and_pause(workspace: Path) -> WorkspaceData:
        started.job.ask("pause")
        return read_workspace(workspace)

    started.read = read_and_pause
    with pytest.raises(JobStopped) as stopped:
        started.run()
    assert not stopped.value.stop
    started.read = read_workspace

    class Counted(tune_workspace.Exam):
        def taken(self, infiller: Any, adapter: str, recall: Any, progress: Any) -> Any:
            asked.append(adapter)
            found = super().taken(infiller, adapter, recall, progress)
            if len(asked) == 1:
                started.job.ask("pause")  # seen when training begins
            return found

    monkeypatch.setattr(tune_workspace, "Exam", Counted)
    with pytest.raises(JobStopped):
        started.run()
    assert asked == [""]
    assert (started.job.work / "before.json").exists()
    started.run()
    assert asked == ["", CANDIDATE], "what was measured is not measured again"


def test_a_job_obeys_while_it_reads(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a long history takes minutes."""
    monkeypatch.setattr(tune_workspace, "LEAST_SECONDS", 0.0)
    looked_at = []

    def read_slowly(obey: Callable[[], None]) -> WorkspaceData:
        for number in range(5):
            looked_at.append(number)
            if number == 2:
                started.job.ask("stop")
            obey()
        raise AssertionError("it went on")

    with started.job.held(), pytest.raises(JobStopped) as stopped:
        tune(started.job, read_slowly, started.options, Infiller.load, recall)
    assert stopped.value.stop
    assert looked_at == [0, 1, 2]


def paused_before_training(started: Started, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the run began with; `started` goes on at its next run."""
    began: list[str] = []
    taken = Exam.taken

    def pausing(self: Any, infiller: Any, adapter: str, recall: Any, progress: Any) -> Any:
        found = taken(self, infiller, adapter, recall, progress)
        began[:] = [hole.document.path for hole in self.holes]
        started.job.ask("pause")
        return found

    monkeypatch.setattr(Exam, "taken", pausing)
    with pytest.raises(JobStopped):
        started.run()
    monkeypatch.setattr(Exam, "taken", taken)
    return began


def test_a_run_that_goes_on_keeps_to_the_files_that_it_began_with(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = paused_before_training(started, monkeypatch)

    def read_later(workspace: Path) -> WorkspaceData:
        """Files were added since: others are held out."""
        data = read_workspace(workspace)
        texts = {f"src/new_{file.path[4:]}": file.text for file in data.files}
        return workspace_data(texts, None)

    started.read = read_later
    measured: list[str] = []
    taken = Exam.taken

    def noting(self: Any, *rest: Any) -> Any:
        measured.extend(hole.document.path for hole in self.holes)
        return taken(self, *rest)

    monkeypatch.setattr(Exam, "taken", noting)
    assert started.run().edits == 9
    assert measured == began, "the same items before and after, and none that was learned"


def test_a_run_of_another_model_begins_anew(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paused_before_training(started, monkeypatch)
    other = tmp_path / "other"
    shutil.copytree(started.checkpoint, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config, indent=3))
    started.options, started.checkpoint = replace(started.options, base=other), other
    asked = asked_of(monkeypatch)
    started.run()
    assert asked == ["", CANDIDATE], "the other model was measured as it is"


@pytest.mark.parametrize("broken", ["before.json", "begun.json.gz"])
def test_what_was_written_in_half_is_made_again(
    started: Started, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    paused_before_training(started, monkeypatch)
    path = started.job.work / broken
    path.write_bytes(b"{}" if broken == "before.json" else path.read_bytes()[:-200])
    assert started.run().holes == 6


def test_a_run_goes_on_with_another_number_of_holes(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused_before_training(started, monkeypatch)
    started.options = replace(started.options, holes_per_kind=3)
    assert started.run().holes == 9


def test_training_is_paused_between_two_steps_and_resumed(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Watched(tune_workspace.Run):
        def __init__(self, config: Any, *, watch: Any) -> None:
            def counting(run: Any) -> None:
                steps.append(run.step)
                if len(steps) == 3:
                    started.job.ask("pause")
                    monkeypatch.setattr(tune_workspace, "LEAST_SECONDS", 0.0)
                watch(run)

            super().__init__(config, watch=counting)

    monkeypatch.setattr(tune_workspace, "Run", Watched)
    with pytest.raises(JobStopped):
        started.run()
    assert steps == [1, 2, 3]
    monkeypatch.setattr(tune_workspace, "LEAST_SECONDS", 1.0)
    started.run()
    assert steps[3] == 4, "from the saved state"


def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_measured(
    started: Started, tmp_path: Path
) -> None:
    causal = tmp_path / "causal"
    shutil.copytree(started.checkpoint, causal)
    config = json.loads((causal / "config.json").read_text())
    (causal / "config.json").write_text(json.dumps(config | {"mask_token_id": None}))
    started.options = replace(started.options, base=causal)
    with pytest.raises(ConfigError, match="without a mask token"):
        started.run()
    assert not started.job.work.exists()


def test_only_one_process_holds_a_job(started: Started) -> None:
    assert not started.job.running
    with started.job.held():
        assert started.job.running
    assert not started.job.running
    started.job.remove()
    assert not started.job.folder.exists()


def test_a_look_at_the_job_does_not_keep_it_from_starting(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = FileLock(started.job.folder / "job.lock")
    look.acquire()
    monkeypatch.setattr("time.sleep", lambda seconds: look.release())  # the look ends meanwhile
    with started.job.held():
        assert not look.is_locked


def test_a_request_is_private_and_read_whole(started: Started) -> None:
    before = os.umask(0o022)
    try:
        started.job.ask("stop")
    finally:
        os.umask(before)
    asked = started.job.folder / "asked"
    assert stat.S_IMODE(asked.stat().st_mode) == 0o600
    with pytest.raises(JobStopped) as stopped:
        started.job.obey()
    assert stopped.value.stop
