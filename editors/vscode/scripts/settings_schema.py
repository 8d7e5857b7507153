#!/usr/bin/env python3
"""Write the server's settings into package.json, so that they are stated once: in the server.

    python editors/vscode/scripts/settings_schema.py           write
    python editors/vscode/scripts/settings_schema.py --check   exit 1 if package.json is outdated

Left out is what VS Code has its own ways for: `logLevel` (the level of the output channel),
`workspaceTrusted` (workspace trust) and `disabledLanguages` (`fim.enable`).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from fim_server.settings.settings import RULES, Settings

MANIFEST = Path(__file__).resolve().parent.parent / "package.json"
OURS = {"logLevel", "workspaceTrusted", "disabledLanguages"}


def properties() -> dict[str, Any]:
    """The `contributes.configuration` properties of all settings of the server."""
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    shown = [key for key in RULES if key not in OURS]
    return {
        f"fim.{key}": {
            **RULES[key].schema,
            "default": _as_json(defaults[RULES[key].field]),
            "order": order,
            "markdownDescription": RULES[key].meaning,
        }
        for order, key in enumerate(shown, start=10)
    }


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def main() -> int:
    before = MANIFEST.read_text(encoding="utf-8")
    manifest = json.loads(before)
    parts = manifest["contributes"]["configuration"]
    server = next(part for part in parts if part["title"] == "Server")
    wanted = properties()
    if server["properties"] == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(
            "editors/vscode/package.json does not have the server's settings; "
            "run python editors/vscode/scripts/settings_schema.py\n"
        )
        return 1
    server["properties"] = wanted
    MANIFEST.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
