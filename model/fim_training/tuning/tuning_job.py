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
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE

Phase = Literal["waiting", "reading", "before", "training", "after", "done", "paused", "failed"]
Asked = Literal["", "pause", "stop"]


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
            return JobState(**{name: value for name, value in raw.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write(self, state: JobState) -> None:
        """Replace the state as one."""
        make_private(self.folder)
        unfinished = self._state.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
        unfinished.replace(self._state)

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
        self._asked.write_text(what, encoding="utf-8")

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

    def drop_adapter(self) -> None:
        for name in (ADAPTER_FILE, ADAPTER_CONFIG):
            (self.folder / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove everything; the caller has ended the job."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "job.lock", timeout=0, mode=0o600)


def make_private(folder: Path) -> None:
    """Make a folder that only its user can enter, and its parents likewise."""
    for place in reversed([folder, *folder.parents]):
        if not place.exists():
            place.mkdir(mode=0o700)
    folder.chmod(0o700)
