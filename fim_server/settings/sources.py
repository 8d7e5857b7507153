"""The sources of settings, from the lowest to the highest precedence:

1. the defaults,
2. the user's `config.toml`, in the platform's configuration folder,
3. the editor's `initializationOptions`,
4. the editor's configuration, section `fim`, which may change at any time,
5. the command line.
"""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from fim_server.settings.settings import Settings, read_settings

SECTION = "fim"

MAX_BYTES = 1 << 20
"""Maximum size of the settings file."""


def config_file() -> Path:
    """Path of the user's settings file, which need not exist."""
    return user_config_path("fim-server", appauthor=False) / "config.toml"


@dataclass(slots=True)
class SettingsSources:
    """The raw value of each source; any of them may be replaced at any time."""

    base: Settings
    file: Path | None = None
    initialization_options: object = None
    configuration: object = None
    command_line: Mapping[str, Any] | None = None

    def resolve(self) -> tuple[Settings, list[str]]:
        """The settings in force, and one message for each mistake in a source."""
        settings, problems = self._from_file(self.base)
        for options, source, foreign in (
            (self.initialization_options, "initializationOptions", False),
            (self.configuration, f"configuration section {SECTION}", True),
            (self.command_line, "command line", False),
        ):
            settings, more = read_settings(options, settings, source, foreign_keys=foreign)
            problems += more
        return settings, problems

    def _from_file(self, base: Settings) -> tuple[Settings, list[str]]:
        if self.file is None:
            return base, []
        settings, problems = read_settings_file(self.file, base)
        return settings, [f"{self.file}: {problem}" for problem in problems]


def read_settings_file(file: Path, base: Settings) -> tuple[Settings, list[str]]:
    """`base` with the values of a TOML file; a missing file sets nothing."""
    try:
        options = tomllib.loads(_text_of(file))
    except FileNotFoundError:
        return base, []
    except OSError as problem:
        return base, [f"cannot be read: {problem.strerror}"]
    except UnicodeDecodeError:
        return base, ["not used: it is not UTF-8"]
    except (ValueError, RecursionError) as problem:  # a number of too many digits is a ValueError
        return base, [f"not used: it is not valid TOML ({str(problem).splitlines()[0]})"]
    return read_settings(options, base, "the file")


def _text_of(file: Path) -> str:
    """The text of a file of at most MAX_BYTES, without a byte order mark.

    Raises OSError, also for what is not a regular file (reading a FIFO would wait for a writer),
    and UnicodeDecodeError.
    """
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_BYTES} bytes")
    return data.decode("utf-8-sig")


def pushed_configuration(settings: object) -> object | None:
    """Section `fim` of a `workspace/didChangeConfiguration` payload; None if it has none."""
    if isinstance(settings, Mapping) and isinstance(settings.get(SECTION), Mapping):
        section: object = settings[SECTION]
        return section
    return None
