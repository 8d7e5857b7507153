"""Starting an engine from a front-end, as a process that outlives it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fim_server.engine.place import EnginePlace, PlaceError, check_socket_path, make_private_folder

ALREADY_RUNNING = 3
"""Exit code of an engine that finds another one in its place."""


@dataclass(frozen=True, slots=True)
class LaunchedEngine:
    """A process that was started, and where in its log its own lines begin."""

    process: subprocess.Popen[bytes]
    log: Path
    log_start: int

    def failure(self) -> str | None:
        """None while it runs, or when it left because another engine serves already; otherwise the
        last line it wrote."""
        code = self.process.poll()
        if code is None or code == ALREADY_RUNNING:
            return None
        lines = []
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(self.log_start)
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        last = lines[-1].removeprefix("fim-server: ") if lines else "it wrote nothing"
        return f"the engine ended with code {code}: {last} (log: {self.log})"

    @property
    def running(self) -> bool:
        return self.process.poll() is None


def engine_command(model: str | None, threads: int | None, idle_minutes: float) -> list[str]:
    """The command line of an engine. `-P`: nothing is imported from the folder it runs in."""
    command = [sys.executable, "-P", "-m", "fim_server", "engine"]
    command += ["--idle-minutes", str(idle_minutes)]
    if model is not None:
        command += ["--model", model]
    if threads is not None:
        command += ["--threads", str(threads)]
    return command


def launch(place: EnginePlace, command: Sequence[str]) -> LaunchedEngine:
    """Start an engine in a session of its own: closing the editor does not end it.

    Several front-ends may do this at once; the engine that finds the lock taken leaves again.
    Raises PlaceError.
    """
    make_private_folder(place.socket.parent)
    check_socket_path(place.socket)
    try:
        place.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = place.log.open("ab")
    except OSError as problem:
        raise PlaceError(
            f"{place.log}: cannot be written ({problem.strerror}); set XDG_STATE_HOME"
        ) from None
    with log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.socket.parent,
                start_new_session=True,
            )
        except OSError as problem:
            raise PlaceError(f"{command[0]}: cannot be started ({problem.strerror})") from None
        return LaunchedEngine(process, place.log, log.tell())
