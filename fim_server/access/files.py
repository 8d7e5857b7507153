"""Finding and reading files that the user has not opened; no other module does either."""

from __future__ import annotations

import os
import stat
from itertools import islice
from pathlib import Path

from fim_model.copies import nearest_names

from fim_server.access.exclusions import Exclusions

MAX_BYTES = 512 * 1024
"""Larger files are not read: they are generated code or data."""

_BINARY_PROBE = 8192

_MAX_NAMES = 2000
"""Maximum number of names listed of a folder; a larger folder rarely holds code."""


def files_beside(file: Path) -> list[Path]:
    """The files in the same folder whose names are most similar to `file`'s, best first.

    No file is opened.
    """
    try:
        with os.scandir(file.parent) as entries:
            names = [entry.name for entry in islice(entries, _MAX_NAMES) if _is_file(entry)]
    except (OSError, ValueError):
        return []
    others = (name for name in names if name != file.name)
    return [file.parent / name for name in nearest_names(file.name, others)]


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


def read_allowed(path: Path, exclusions: Exclusions) -> str | None:
    """The text of a file, with its own line ends; None if it may not or cannot be read.

    Unreadable are special files, files larger than MAX_BYTES, binary files and files that are not
    UTF-8.
    """
    if exclusions.why_not_read(path) is not None:
        return None
    try:
        # O_NOFOLLOW: open exactly the file that was checked. O_NONBLOCK: never wait for a pipe.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path.resolve(), flags)
    except (OSError, RuntimeError, ValueError):
        return None
    try:
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return None
            data = file.read(MAX_BYTES + 1)
    except OSError:  # a folder, which fdopen refuses, or a failing disk
        return None
    if len(data) > MAX_BYTES or b"\0" in data[:_BINARY_PROBE]:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
