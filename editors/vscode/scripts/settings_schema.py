#!/usr/bin/env python3
"""Copy the server's settings into package.json, so that they are declared once: in the server.

    python editors/vscode/scripts/settings_schema.py           write
    python editors/vscode/scripts/settings_schema.py --check   exit 1 if package.json is outdated

Left out are settings for which VS Code has its own mechanism: `logLevel` (the output channel's log
level), `workspaceTrusted` (workspace trust) and `disabledLanguages` (`fim.enable`).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from fim_server.settings.settings import SETTINGS, Settings

MANIFEST = Path(__file__).resolve().parent.parent / "package.json"
VSCODE_OWN = {"logLevel", "workspaceTrusted", "disabledLanguages"}


def properties() -> dict[str, Any]:
    """The server's settings as `contributes.configuration` properties."""
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    shown = [key for key in SETTINGS if key not in VSCODE_OWN]
    return {
        f"fim.{key}": {
            **SETTINGS[key].schema,
            "default": _as_json(defaults[SETTINGS[key].field]),
            "order": order,
            "markdownDescription": SETTINGS[key].description,
        }
        for order, key in enumerate(shown, start=10)
    }


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def main() -> int:
    before = MANIFEST.read_text(encoding="utf-8")
    manifest = json.loads(before)
    sections = manifest["contributes"]["configuration"]
    server = next(section for section in sections if section["title"] == "Server")
    expected = properties()
    if server["properties"] == expected:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(
            "the settings in editors/vscode/package.json are out of date; "
            "run: python editors/vscode/scripts/settings_schema.py\n"
        )
        return 1
    server["properties"] = expected
    MANIFEST.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
