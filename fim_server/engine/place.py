"""Where an engine is found: its socket, its lock and its log, in folders that only the user enters.

There is one place for each model and version of fim-server, so that whoever wants the same model
meets the same engine.
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
"""Bytes of `sun_path`, without the final zero."""


class PlaceError(Exception):
    """No safe place for the socket; one line that names the folder and the way out."""


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """`lock` is held by the engine as long as it lives, so its holder may replace the socket."""

    socket: Path
    lock: Path
    token: Path
    log: Path


def engine_place(model: str | None) -> EnginePlace:
    """The place of the engine that serves `model` (a folder or a name; None is the default).

    Makes nothing on disk.
    """
    name = "default"
    if model is not None:
        name = str(Path(model).expanduser().resolve()) if Path(model).exists() else model
    identity = f"{version('fim-server')}/{PROTOCOL}/{name}"
    stem = f"engine-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR platformdirs warns and takes a folder in the temporary one.
        warnings.simplefilter("ignore")
        runtime = user_runtime_path("fim-server", appauthor=False)
    log = user_log_path("fim-server", appauthor=False)
    return EnginePlace(
        socket=runtime / f"{stem}.sock",
        lock=runtime / f"{stem}.lock",
        token=runtime / "token",
        log=log / f"{stem}.log",
    )


def make_private_folder(folder: Path) -> None:
    """Make sure that `folder` exists, is the user's own, and lets nobody else in.

    Raises PlaceError: a socket in a folder that others may write to could be anybody's.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise PlaceError(
            f"{folder}: cannot be made ({problem.strerror}); set XDG_RUNTIME_DIR to a folder of "
            "your own, or use --in-process"
        ) from None
    check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """Raises PlaceError for a folder that is not the user's own and closed to all others."""
    try:
        status = folder.lstat()
    except OSError as problem:
        raise PlaceError(f"{folder}: {problem.strerror}; set XDG_RUNTIME_DIR") from None
    if not stat.S_ISDIR(status.st_mode):
        raise PlaceError(f"{folder}: is not a folder; remove it")
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise PlaceError(f"{folder}: belongs to another user; set XDG_RUNTIME_DIR")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PlaceError(f"{folder}: other users may enter it; run: chmod 700 {folder}")


def check_socket_path(socket: Path) -> None:
    """Raises PlaceError where the system cannot bind to so long a path."""
    if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
        raise PlaceError(
            f"{socket}: longer than the {LONGEST_SOCKET_PATH} bytes a socket's path may have; "
            "set XDG_RUNTIME_DIR to a shorter folder"
        )
