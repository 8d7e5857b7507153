"""Tunes a model to a workspace: measures, trains, measures again, and keeps what is better.

An adapter in use is measured too, once the new one is found better than the model alone.

Each phase leaves its result in the job's `work` folder, so that a paused or killed job goes on from
there; training resumes from its saved state.
"""

from __future__ import annotations

import gzip
import json
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from fim_model.errors import CheckpointError, ConfigError
from fim_model.loading.adapters import PROJECTIONS, base_digest, read_adapter
from fim_model.loading.headers import read_config
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE

from fim_training.trainer.train import Run
from fim_training.trainer.train_config import TrainConfig
from fim_training.trainer.trainee import check_trainable
from fim_training.tuning.measured import Exam, Measured, Recall
from fim_training.tuning.tuning_job import JobState, JobStopped, Phase, TuningJob
from fim_training.tuning.verdict import Report, against_earlier, report
from fim_training.tuning.workspace_data import EDITS, WorkspaceData

if TYPE_CHECKING:
    from fim_model.infiller import Infiller

RANK, ALPHA, RATE = 16, 32.0, 4e-4
SAVE_EVERY = 20
"""Steps between saved states."""

LEAST_SECONDS = 1.0
"""Between two looks at what the job was asked, and two states that it writes."""

CANDIDATE, EARLIER = "0" * 16, "1" * 16
"""The names, while they are measured, of the adapter that was trained and of the one in use."""


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """base: the checkpoint's folder. minutes: of training. threads: CPU threads of everything.
    holes_per_kind: held-out holes of each one-line kind, in the workspace and in general."""

    base: Path
    minutes: float
    threads: int
    holes_per_kind: int
    device: str = "auto"
    rows: int = 4
    length: int = 512
    seed: int = 0


Load = Callable[[Path], "Infiller"]
"""A model with the adapters of a folder."""

Read = Callable[[Callable[[], None]], WorkspaceData]
"""Reads a workspace; calls what it is given at each file, which raises JobStopped to end it."""


def tune(
    job: TuningJob,
    read: Read,
    options: TuneOptions,
    load: Load,
    recall: Recall,
) -> Report:
    """Run the job from where it is to its end; the adapter is kept or dropped.

    The job is held by the caller. Raises JobStopped, ValueError for a workspace with too little to
    learn from, CheckpointError or ConfigError for a model that cannot be trained, CheckpointError
    for training that gave no usable adapter.
    """
    check_trainable(options.base)
    torch.set_num_threads(options.threads)
    base = base_digest(options.base)
    in_use = _is_usable(job.folder, options.base, base)
    teller = _Teller(job, options, again=1 + in_use)
    teller.begin("reading")
    data = _data(job, base, lambda: read(lambda: teller.tell(0.0)))
    data.write(job.work / "corpus")
    exam = Exam.drawn(
        data.held_out, data.general, data.held_out_edits, options.holes_per_kind, options.seed
    )
    if not exam.holes:
        job.drop_work()
        raise ValueError(
            f"the {len(data.held_out)} held-out files have no place to measure with; nothing that "
            "was learned could be kept"
        )
    candidates = job.work / "candidates"
    before = _measured(job, teller, "before", exam, load, candidates, "", recall)
    teller.begin("training")
    place = _offered(_trained(job, options, teller, base), candidates / CANDIDATE)
    after = _measured(job, teller, "after", exam, load, candidates, CANDIDATE, recall)
    found = report(before, after, options.seed)
    if found.kept and in_use:
        _offered(job.folder, candidates / EARLIER)
        earlier = _measured(job, teller, "earlier", exam, load, candidates, EARLIER, recall)
        found = against_earlier(found, earlier, after, options.seed)
    if found.kept:
        job.keep(place)
    job.drop_work()
    teller.end(found)
    return found


def _trained(job: TuningJob, options: TuneOptions, teller: _Teller, base: str) -> Path:
    """The folder of the adapter, trained unless it is there. Raises CheckpointError if the model
    would not use it, which would be measured as the model alone."""
    run, done = job.work / "run", job.work / "trained"
    if not done.exists():
        _train(job.work / "corpus", run, options, teller)
        done.touch()
    try:
        read_adapter(run / "checkpoint", read_config(options.base), base)
    except CheckpointError as wrong:
        done.unlink()  # else every later start would end here as well
        shutil.rmtree(run)
        raise CheckpointError(f"what was trained is of no use, and is dropped: {wrong}") from None
    return run / "checkpoint"


def _is_usable(folder: Path, checkpoint: Path, base: str) -> bool:
    """Whether a folder has an adapter for this model, whose digest is `base`."""
    try:
        read_adapter(folder, read_config(checkpoint), base)
    except (CheckpointError, OSError):
        return False
    return True


def _offered(adapter: Path, place: Path) -> Path:
    """A copy of an adapter's files where a model finds them by the name of the folder."""
    place.mkdir(parents=True, exist_ok=True)
    for name in (ADAPTER_FILE, ADAPTER_CONFIG):
        shutil.copyfile(adapter / name, place / name)
    return place


def _data(job: TuningJob, base: str, read: Callable[[], WorkspaceData]) -> WorkspaceData:
    """What the run began with, or what is read now; then the run begins anew.

    A run that goes on keeps to the files that it began with: from others, items would be held out
    that were learned already, and the second measurement would be of other items than the first.
    base: the digest of the model; a run of another model cannot go on.
    """
    path = job.work / "begun.json.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            begun = json.load(file)
        if begun["base"] == base:
            return WorkspaceData.from_json(begun["data"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError):
        pass
    job.drop_work()
    data = read()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with gzip.open(unfinished, "wt", encoding="utf-8") as file:
        json.dump({"base": base, "data": data.as_json()}, file)
    unfinished.replace(path)
    return data


def _measured(
    job: TuningJob,
    teller: _Teller,
    phase: Phase,
    exam: Exam,
    load: Load,
    adapters: Path,
    name: str,
    recall: Recall,
) -> Measured:
    """The state of one phase: from its file, or measured and kept there."""
    teller.begin(phase)
    path = job.work / f"{phase}.json"
    found = Measured.read(path)
    if found is None or not exam.fits(found):
        found = exam.taken(load(adapters), name, recall, teller.tell)
        found.write(path)
    return found


def _train(corpus: Path, out: Path, options: TuneOptions, teller: _Teller) -> None:
    """Train for the budget, or resume. Raises JobStopped after saving."""
    edits = corpus / EDITS
    config = TrainConfig(
        corpus=str(corpus), out=str(out), base=str(options.base), minutes=options.minutes,
        rows=options.rows, rows_at_once=1, length=options.length, lora_rank=RANK, lora_alpha=ALPHA,
        lora_targets=list(PROJECTIONS), matrix_lr=RATE, vector_lr=RATE, weight_decay=0.01,
        warmup=10, cooldown=0.5, edit_share=0.15, seed=options.seed, device=options.device,
        commits=str(edits) if edits.is_file() else "",
        threads=options.threads, workers=0, compile=False, save_every=SAVE_EVERY,
        validate_every=10**9, state_mb=0,
    )  # fmt: skip
    stopped: list[JobStopped] = []

    def watch(run: Run) -> None:
        try:
            teller.tell(min(run.spent, 1.0), run.seconds)
        except JobStopped as asked:
            stopped.append(asked)
            run.pause()

    Run(config, watch=watch).train()
    if stopped:
        raise stopped[0]
    if not (out / "checkpoint" / ADAPTER_FILE).is_file():
        raise ConfigError("training ended without a single step; give it more time")


class _Teller:
    """Writes the job's state, and reads what it was asked, at most every second."""

    def __init__(self, job: TuningJob, options: TuneOptions, again: int) -> None:
        """again: how many measurements follow training, at most."""
        self._job, self._budget, self._again = job, 60 * options.minutes, again
        self._state = job.state or JobState("")
        self._told = self._began = 0.0
        self._took = 0.0

    def begin(self, phase: Phase) -> None:
        self._began = time.monotonic()
        self._state = replace(self._state, phase=phase, share=0.0, problem="")
        self.tell(0.0, always=True)

    def tell(self, share: float, trained: float | None = None, *, always: bool = False) -> None:
        """Raises JobStopped."""
        now = time.monotonic()
        if not always and now - self._told < LEAST_SECONDS:
            return
        self._told = now
        if trained is not None:
            self._state = replace(self._state, trained=trained)
        self._state = replace(self._state, share=share, seconds_left=self._left(share))
        self._job.write(self._state)
        self._job.obey()

    def end(self, found: Report) -> None:
        self._state = replace(
            self._state, phase="done", share=1.0, seconds_left=0.0, report=found.as_json()
        )
        self._job.write(self._state)

    def _left(self, share: float) -> float:
        """Measuring again takes as long as the first time."""
        phase, spent = self._state.phase, time.monotonic() - self._began
        rest = spent * (1 - share) / share if share > 0.02 else 0.0
        training = max(0.0, self._budget - self._state.trained)
        if phase == "before":
            self._took = spent + rest
            return rest + training + self._again * self._took
        if phase == "training":
            return training + self._again * self._took
        if phase == "after":
            return rest + (self._again - 1) * self._took
        return rest if phase == "earlier" else 0.0
