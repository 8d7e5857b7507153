"""Writes `docs/configuration.md` from the settings: `python -m fim_server.settings.docs`.

`--check` writes nothing and exits with 1 if the file is not up to date; `--schema` prints the
settings as JSON schema, for editors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fim_server.settings.settings import RULES, Rule, Settings

DOCUMENT = Path("docs") / "configuration.md"

HEAD = """\
# Configuration

<!-- Written by `python -m fim_server.settings.docs` from fim_server/settings/settings.py. -->

Every setting has one name, wherever it is set. From the lowest to the highest precedence:

1. the default below;
2. the user's file `config.toml`: `~/.config/fim-server/` on Linux, `~/Library/Application
   Support/fim-server/` on macOS, `%LOCALAPPDATA%\\fim-server\\` on Windows;
3. `initializationOptions` of the editor;
4. the editor's configuration, section `fim`, by `workspace/didChangeConfiguration` or
   `workspace/configuration`; a change counts at once, and what it does not name keeps its value
   from the sources above;
5. options of the command line.

`null` sets nothing. A value that is not allowed is named in a message, with those that are, and
what was set before stays; nothing else happens. `fim-server doctor` shows the same messages.

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

Decided by name and place, before a file is opened, and for the document at the cursor as well:

- files with the name of a secret (`.env`, `*.pem`, `id_rsa`, `credentials.json`, …: the list is
  `fim_server/access/secret_names.py`), which no setting shows;
- what `.fimignore` files name, in the language of `.gitignore`, in any folder;
- what `.gitignore` files name, unless `gitignore` is false;
- what `exclude` names;
- links out of the workspace, files outside of it, files of more than 512 KB, binary files.
"""


def document() -> str:
    """The whole text of the document."""
    sections = (_section(key, rule) for key, rule in RULES.items())
    return "\n".join([HEAD, "## Settings\n", *sections, EXCLUDED])


def schema() -> dict[str, Any]:
    """Each setting as JSON schema, with its default and its meaning."""
    return {
        key: {**rule.schema, "default": _default(rule), "markdownDescription": rule.meaning}
        for key, rule in RULES.items()
    }


def _section(key: str, rule: Rule) -> str:
    allowed = rule.allowed[0].upper() + rule.allowed[1:]
    restart = " A change loads the model anew." if rule.needs_new_backend else ""
    return (
        f"### `{key}`\n\n{rule.meaning}{restart}\n\n"
        f"{allowed}; default `{json.dumps(_default(rule))}`.\n"
    )


def _default(rule: Rule) -> Any:
    value = getattr(Settings(), rule.field)
    return list(value) if isinstance(value, tuple) else value


def main(arguments: Sequence[str]) -> int:
    if "--schema" in arguments:
        sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        return 0
    wanted = document()
    if "--check" in arguments:
        if DOCUMENT.is_file() and DOCUMENT.read_text(encoding="utf-8") == wanted:
            return 0
        sys.stderr.write(f"{DOCUMENT} is not up to date; run: python -m fim_server.settings.docs\n")
        return 1
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
