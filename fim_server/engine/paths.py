"""Paths of the engine's socket, lock, token and log, in folders that only the user can enter.

The paths depend on the model and the version of fim-server, so that all editors which use the same
model find the same engine.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_log_path, user_runtime_path

from fim_server.engine.wire import PROTOCOL

LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Maximum size of a Unix socket's path (`sun_path`) in bytes, without the final zero."""


class EngineStartError(Exception):
    """The engine cannot be started or reached; the message is one line and names the remedy."""


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """The engine holds `lock` while it runs, so the holder may replace a leftover socket."""

    socket: Path
    lock: Path
    token: Path
    log: Path


def engine_paths(model: str | None) -> EnginePaths:
    """The paths of the engine that serves `model` (a folder or a name; None is the default).

    Creates nothing on disk.
    """
    name = "default"
    if model is not None:
        folder = Path(model).expanduser()
        name = str(folder.resolve()) if folder.exists() else model
    identity = f"{version('fim-server')}/{PROTOCOL}/{name}"
    stem = f"engine-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR, platformdirs warns and uses the temporary folder.
        warnings.simplefilter("ignore")
        runtime = user_runtime_path("fim-server", appauthor=False)
    log = user_log_path("fim-server", appauthor=False)
    return EnginePaths(
        socket=runtime / f"{stem}.sock",
        lock=runtime / f"{stem}.lock",
        token=runtime / "token",
        log=log / f"{stem}.log",
    )


def make_private_folder(folder: Path) -> None:
    """Create `folder` if needed, and check that it belongs to the user and is closed to others.

    Raises EngineStartError otherwise: other users could replace a socket in a shared folder.
    """
    try:
        # Missing parents are made private too (`parents=True` would not do that): platformdirs
        # ignores a runtime directory that other users can enter, and would look elsewhere.
        for ancestor in reversed([folder, *folder.parents]):
            if ancestor == folder or not ancestor.exists():
                ancestor.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise EngineStartError(
            f"{folder}: cannot be created ({problem.strerror}); set XDG_RUNTIME_DIR to a folder of "
            "your own, or use --in-process"
        ) from None
    check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """Raise EngineStartError unless `folder` belongs to the user and is closed to others."""
    try:
        status = folder.lstat()
    except OSError as problem:
        raise EngineStartError(f"{folder}: {problem.strerror}; set XDG_RUNTIME_DIR") from None
    if not stat.S_ISDIR(status.st_mode):
        raise EngineStartError(f"{folder}: is not a folder; remove it")
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise EngineStartError(f"{folder}: belongs to another user; set XDG_RUNTIME_DIR")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise EngineStartError(f"{folder}: other users may enter it; run: chmod 700 {folder}")


def check_socket_path(socket: Path) -> None:
    """Raise EngineStartError if the path is too long for a Unix socket."""
    if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
        raise EngineStartError(
            f"{socket}: the path is longer than the {LONGEST_SOCKET_PATH} bytes that a socket "
            "allows; "
            "set XDG_RUNTIME_DIR to a shorter folder"
        )
