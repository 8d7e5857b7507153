"""The folder of a workspace's adapter, and the job that trains it: state, lock, requests to it.

    NAME/adapter_config.json, adapter_model.safetensors   what the engine loads, if it was kept
    NAME/tune.json      the job's state and, at its end, the report
    NAME/asked          "pause" or "stop": read by the job between two steps
    NAME/job.lock       held while the job runs
    NAME/work/          texts of the workspace, the run's state: removed at the end

Everything is readable by its user only: an adapter may contain the code that it was trained on.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE

Phase = Literal[
    "waiting", "reading", "before", "training", "after", "earlier", "done", "paused", "failed"
]
Asked = Literal["", "pause", "stop"]

LOCK_SECONDS = 0.5
"""How long to try for the lock: who asks whether the job runs holds it for a moment as well."""


@dataclass(frozen=True, slots=True)
class JobState:
    """share: of the phase under way, 0 to 1. seconds_left: an estimate for the whole job, 0 where
    there is none. hours: of training. holes: of each kind to measure with. trained: seconds of
    training so far. problem: why it failed. report: see `verdict.Report`, None before the end."""

    workspace: str
    model: str = ""
    hours: float = 1.0
    holes: int = 80
    phase: Phase = "waiting"
    share: float = 0.0
    seconds_left: float = 0.0
    trained: float = 0.0
    pid: int = 0
    started: float = 0.0
    problem: str = ""
    report: dict[str, Any] | None = field(default=None)


class JobStopped(Exception):
    """The job was asked to pause or to stop; `stop` tells which."""

    def __init__(self, *, stop: bool) -> None:
        super().__init__("stopped" if stop else "paused")
        self.stop = stop


class TuningJob:
    """A workspace's folder below the folder of adapters."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        self._state, self._asked = folder / "tune.json", folder / "asked"

    @property
    def state(self) -> JobState | None:
        """As last written; None without a job, and for a file that is none."""
        try:
            raw = json.loads(self._state.read_text(encoding="utf-8"))
            known = {entry.name for entry in fields(JobState)}
            state = JobState(**{name: value for name, value in raw.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return state if _is_sound(state) else None

    def write(self, state: JobState) -> None:
        """Replace the state as one."""
        make_private(self.folder)
        _replace(self._state, json.dumps(asdict(state), indent=1))

    @property
    def has_adapter(self) -> bool:
        return (self.folder / ADAPTER_FILE).is_file()

    @property
    def running(self) -> bool:
        """Whether a process holds the job."""
        if not self.folder.is_dir():
            return False
        try:
            with self._lock():
                return False
        except Timeout:
            return True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While inside, this process is the job; files that it makes are its user's alone.

        Raises filelock.Timeout if another one runs.
        """
        make_private(self.folder)
        with self._lock():
            before = os.umask(0o077)
            try:
                self._asked.unlink(missing_ok=True)
                yield
            finally:
                os.umask(before)

    def ask(self, what: Asked) -> None:
        """Ask the running job to pause or to stop."""
        _replace(self._asked, what)

    def obey(self) -> None:
        """Raise JobStopped if the job was asked to pause or to stop."""
        with contextlib.suppress(OSError):
            asked = self._asked.read_text(encoding="utf-8")
            self._asked.unlink()
            raise JobStopped(stop=asked == "stop")

    def wait_until_ended(self, seconds: float) -> bool:
        """Whether the job ended within this time."""
        end = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def keep(self, trained: Path) -> None:
        """Put a trained adapter where the engine finds it, in place of an earlier one."""
        for name in (ADAPTER_FILE, ADAPTER_CONFIG):
            (trained / name).chmod(0o600)
            (trained / name).replace(self.folder / name)

    def drop_work(self) -> None:
        """Remove texts and states of the run."""
        shutil.rmtree(self.work, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything; the caller has ended the job."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "job.lock", timeout=LOCK_SECONDS, mode=0o600)


def _replace(path: Path, text: str) -> None:
    """Write a file as one, for its user alone: a reader sees the old text or the new one."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _is_sound(state: JobState) -> bool:
    """Whether every value is of its type: the file may have been edited or damaged."""
    blank = JobState("")
    numbers = ("hours", "share", "seconds_left", "trained", "started")
    return (
        all(isinstance(getattr(state, name), str) for name in ("workspace", "model", "problem"))
        and all(type(getattr(state, name)) in (int, float) for name in numbers)
        and all(math.isfinite(getattr(state, name)) for name in numbers)
        and all(
            type(getattr(state, name)) is type(getattr(blank, name)) for name in ("holes", "pid")
        )
        and state.phase in get_args(Phase)
        and state.hours > 0
        and state.holes > 0
        and (state.report is None or isinstance(state.report, dict))
    )


def make_private(folder: Path) -> None:
    """Make a folder that only its user can enter, and its parents likewise."""
    for place in reversed([folder, *folder.parents]):
        if not place.exists():
            place.mkdir(mode=0o700)
    folder.chmod(0o700)
