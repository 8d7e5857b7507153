"""Generator of `docs/configuration.md`: `python -m fim_server.settings.docs`.

`--check` writes nothing and exits with 1 if the file is out of date; `--schema` prints the
settings as JSON schema, for editors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fim_server.settings.setting_kinds import Setting
from fim_server.settings.settings import SETTINGS, Settings

DOCUMENT = Path("docs") / "configuration.md"

HEAD = """\
# Configuration

<!-- Written by `python -m fim_server.settings.docs` from fim_server/settings/settings.py. -->

Set any of these settings in your editor or in a file; the name is the same everywhere. Later
sources override earlier ones:

1. the defaults below;
2. your `config.toml`, in `~/.config/fim-server/` on Linux, `~/Library/Application
   Support/fim-server/` on macOS, `%LOCALAPPDATA%\\fim-server\\` on Windows;
3. the editor's `initializationOptions`;
4. the editor's configuration, section `fim` (`workspace/didChangeConfiguration` or
   `workspace/configuration`); changes take effect immediately, and settings that it leaves out keep
   their value from the sources above;
5. command-line options.

`null` leaves a setting as it is. An invalid value is reported with the values that are allowed, and
the previous value stays in force. `fim-server doctor` prints the same messages.

```toml
# config.toml
mode = "ar"
maxLines = 4
exclude = ["legal/", "*_pb2.py"]
disabledLanguages = ["markdown"]
```
"""

EXCLUDED = """\
## What the model never sees

These files are excluded by name and location, before they are opened, and even when they are the
document you are editing:

- files named like secrets (`.env`, `*.pem`, `id_rsa`, `credentials.json`, …; the full list is in
  `fim_server/access/secret_names.py`), which no setting can include;
- files matched by a `.fimignore` file, which uses `.gitignore` syntax, in any folder;
- files matched by `.gitignore`, unless `gitignore` is false;
- files matched by `exclude`;
- symbolic links that leave the workspace.

Context from files that you have not opened also skips files outside the workspace, files larger
than 512 KB, and binary files.
"""


def document() -> str:
    """The text of `docs/configuration.md`."""
    sections = (_section(key, setting) for key, setting in SETTINGS.items())
    return "\n".join([HEAD, "## Settings\n", *sections, EXCLUDED])


def schema() -> dict[str, Any]:
    """Each setting as JSON schema, with its default and its description."""
    return {
        key: {
            **setting.schema,
            "default": _default(setting),
            "markdownDescription": setting.description,
        }
        for key, setting in SETTINGS.items()
    }


def _section(key: str, setting: Setting) -> str:
    allowed = setting.allowed[0].upper() + setting.allowed[1:]
    restart = " Changing it reloads the model." if setting.needs_new_backend else ""
    return (
        f"### `{key}`\n\n{setting.description}{restart}\n\n"
        f"{allowed}; default `{json.dumps(_default(setting))}`.\n"
    )


def _default(setting: Setting) -> Any:
    value = getattr(Settings(), setting.field)
    return list(value) if isinstance(value, tuple) else value


def main(arguments: Sequence[str]) -> int:
    if "--schema" in arguments:
        sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        return 0
    expected = document()
    if "--check" in arguments:
        if DOCUMENT.is_file() and DOCUMENT.read_text(encoding="utf-8") == expected:
            return 0
        sys.stderr.write(f"{DOCUMENT} is out of date; run: python -m fim_server.settings.docs\n")
        return 1
    DOCUMENT.write_text(expected, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
