"""Paths of the engine's socket, lock and log, in folders that only the user can enter.

The paths depend on the model and the version of fim-server, so that all editors which use the same
model find the same engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
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
    log: Path


def engine_paths(model: str | None) -> EnginePaths:
    """The paths of the engine that serves `model` (a folder or a name; None is the default).

    Creates nothing on disk.
    """
    identity = f"{version('fim-server')}/{PROTOCOL}/{model_identity(model) or 'default'}"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    stem = f"engine-{digest[:12]}"
    runtime = _runtime_folder(f"{stem}.sock")
    log = user_log_path("fim-server", appauthor=False)
    return EnginePaths(
        socket=runtime / f"{stem}.sock",
        lock=runtime / f"{stem}.lock",
        log=log / f"{stem}.log",
    )


def model_identity(model: str | None) -> str | None:
    """The absolute path of a model that is a folder or file, anything else as it is given."""
    if model is None:
        return None
    try:
        path = Path(model).expanduser()
        return str(path.resolve()) if path.exists() else model
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user's home, a zero byte
        return model


def _runtime_folder(name: str) -> Path:
    """The platform's folder for sockets, or one in the temporary folder where `name` in the former
    would be longer than a socket's path may be, or the former can be neither used nor created.

    The choice depends on the environment only, so that all editors find the same engine.
    """
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR, platformdirs warns and uses the temporary folder.
        warnings.simplefilter("ignore")
        preferred = user_runtime_path("fim-server", appauthor=False)
    for folder in (preferred, *_temporary_folders()):
        if _fits(folder / name) and _can_be_made(folder):
            return folder
    return preferred


def _temporary_folders() -> Iterator[Path]:
    """The user's own folders in the temporary ones. They are looked up only when one is needed:
    Python fails to find one where none can be written to, as on a full disk."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()) / f"fim-server-{user}"
    yield Path("/tmp") / f"fim-server-{user}"


def _can_be_made(folder: Path) -> bool:
    """Whether a folder exists, whatever its state, or can be created: its nearest existing
    ancestor is a folder that can be written."""
    if os.path.lexists(folder):
        return True
    above = next((path for path in folder.parents if os.path.lexists(path)), None)
    return above is not None and above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def _fits(socket: Path) -> bool:
    """Whether a path is short enough for a Unix socket."""
    return len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH


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
    if not _fits(socket):
        raise EngineStartError(
            f"{socket}: the path is longer than the {LONGEST_SOCKET_PATH} bytes that a socket "
            "allows; set XDG_RUNTIME_DIR to a shorter folder"
        )
