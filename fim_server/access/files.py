"""Finding and reading files that the user did not open: the only place of the program that does."""

from __future__ import annotations

import os
import stat
from itertools import islice
from pathlib import Path

from fim_model.copies import nearest_names

from fim_server.access.exclusions import Exclusions

MOST_BYTES = 512 * 1024
"""A larger file is generated or data, and is not read."""

_BINARY_PROBE = 8192

_MOST_NAMES = 2000
"""Of a folder that are looked at: one with more is no place where a person keeps code."""


def files_beside(file: Path) -> list[Path]:
    """The files in the same folder that are most like `file` by their names, the likest first.
    Names only: nothing is opened here."""
    try:
        with os.scandir(file.parent) as entries:
            names = [one.name for one in islice(entries, _MOST_NAMES) if one.is_file()]
    except OSError:
        return []
    others = (name for name in names if name != file.name)
    return [file.parent / name for name in nearest_names(file.name, others)]


def read_allowed(path: Path, exclusions: Exclusions) -> str | None:
    """The text of a file that may be read, with its own line ends; None for any other.

    None as well for what is no ordinary file, too large, binary, or not UTF-8.
    """
    if exclusions.why_not_read(path) is not None:
        return None
    try:
        # No link is followed and no pipe is waited for: what was judged is what is opened.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path.resolve(), flags)
    except (OSError, RuntimeError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            return None
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES or b"\0" in data[:_BINARY_PROBE]:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
