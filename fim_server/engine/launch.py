"""Starting the engine from a front-end, as a process that outlives it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fim_server.engine.paths import (
    EnginePaths,
    EngineStartError,
    check_socket_path,
    make_private_folder,
)

ALREADY_RUNNING = 3
"""Exit code of an engine that finds another one running."""


@dataclass(frozen=True, slots=True)
class LaunchedEngine:
    """A started engine process, and the offset in its log at which its own lines begin."""

    process: subprocess.Popen[bytes]
    log: Path
    log_start: int

    def failure(self) -> str | None:
        """Why the process failed, with the last line of its log.

        None while it runs, and if it exited because another engine is serving already.
        """
        code = self.process.poll()
        if code is None or code == ALREADY_RUNNING:
            return None
        lines = []
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(self.log_start)
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        last = lines[-1].removeprefix("fim-server: ") if lines else "no output"
        return f"the engine exited with code {code}: {last} (log: {self.log})"

    @property
    def running(self) -> bool:
        return self.process.poll() is None


def engine_command(model: str | None, threads: int | None, idle_minutes: float) -> list[str]:
    """The command line of an engine; `-P` keeps its working directory off the import path."""
    command = [sys.executable, "-P", "-m", "fim_server", "engine"]
    command += ["--idle-minutes", str(idle_minutes)]
    if model is not None:
        command += ["--model", model]
    if threads is not None:
        command += ["--threads", str(threads)]
    return command


def launch(paths: EnginePaths, command: Sequence[str]) -> LaunchedEngine:
    """Start an engine in its own process session, so that closing the editor does not end it.

    Several front-ends may do this at once: an engine that finds the lock taken exits again. Raises
    EngineStartError.
    """
    make_private_folder(paths.socket.parent)
    check_socket_path(paths.socket)
    try:
        paths.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = paths.log.open("ab")
    except OSError as problem:
        raise EngineStartError(
            f"{paths.log}: cannot be written ({problem.strerror}); set XDG_STATE_HOME"
        ) from None
    with log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=paths.socket.parent,
                start_new_session=True,
            )
        except OSError as problem:
            raise EngineStartError(
                f"{command[0]}: cannot be started ({problem.strerror})"
            ) from None
        return LaunchedEngine(process, paths.log, log.tell())
