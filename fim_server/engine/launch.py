"""Starting the engine from a front-end, as a process that outlives it."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fim_server.engine.paths import (
    EnginePaths,
    EngineStartError,
    check_socket_path,
    make_private_folder,
)

logger = logging.getLogger(__name__)

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
        said = lines[-1] if lines else "no output"
        last = said.removeprefix("fim-server: ").removeprefix("fim-server engine: ")
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
    path, log = _open_log(paths)
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
        except (OSError, ValueError) as problem:
            why = getattr(problem, "strerror", None) or str(problem)
            raise EngineStartError(f"{command[0]}: cannot be started ({why})") from None
        return LaunchedEngine(process, path, log.tell())


def _open_log(paths: EnginePaths) -> tuple[Path, BinaryIO]:
    """The engine's log, opened to append: in the log folder, else beside the socket, else nowhere.

    A log that cannot be written is no reason to have no engine.
    """
    for path in (paths.log, paths.socket.with_suffix(".log")):
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # O_NONBLOCK: opening a FIFO that nobody reads fails instead of waiting.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
            log = os.fdopen(os.open(path, flags, 0o600), "ab")
            if stat.S_ISREG(os.fstat(log.fileno()).st_mode):
                if path != paths.log:
                    logger.warning("%s cannot be written; the engine's log is %s", paths.log, path)
                return path, log
            log.close()
    logger.warning("%s cannot be written; the engine keeps no log", paths.log)
    return Path(os.devnull), open(os.devnull, "ab")  # noqa: PTH123 - the caller closes it
