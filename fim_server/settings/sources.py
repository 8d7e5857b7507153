"""Where settings come from, the later before the earlier:

1. the defaults,
2. the user's file, `config.toml` in the platform's place for configuration,
3. the editor's `initializationOptions`,
4. the editor's configuration, section `fim`, which may change at any time,
5. the command line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from fim_server.settings.settings import Settings, read_settings

SECTION = "fim"


def config_file() -> Path:
    """The user's settings; it need not exist."""
    return user_config_path("fim-server", appauthor=False) / "config.toml"


@dataclass(slots=True)
class SettingsSources:
    """What each source says, as it said it; each may be replaced at any time."""

    base: Settings
    file: Path | None = None
    initialization_options: object = None
    configuration: object = None
    command_line: Mapping[str, Any] | None = None

    def resolve(self) -> tuple[Settings, list[str]]:
        """The settings in force, and what is wrong with any source."""
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
    """`base` with what a TOML file sets; one that does not exist sets nothing."""
    try:
        options = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return base, []
    except OSError as problem:
        return base, [f"cannot be read ({problem.strerror})"]
    except UnicodeDecodeError:
        return base, ["is not UTF-8, and not used"]
    except tomllib.TOMLDecodeError as problem:
        return base, [f"is not TOML, and not used ({problem})"]
    return read_settings(options, base, "the file")


def pushed_configuration(settings: object) -> object | None:
    """Our section of what `workspace/didChangeConfiguration` brought; None if it brought none."""
    if isinstance(settings, Mapping) and isinstance(settings.get(SECTION), Mapping):
        section: object = settings[SECTION]
        return section
    return None
