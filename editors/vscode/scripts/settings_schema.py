#!/usr/bin/env python3
"""Write the server's settings into package.json, so that they are stated once: in the server.

    python editors/vscode/scripts/settings_schema.py           write
    python editors/vscode/scripts/settings_schema.py --check   exit 1 if package.json is outdated

`logLevel` is left out: in VS Code the level of the output channel does its work.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fim_server.settings import _RULES, Settings

MANIFEST = Path(__file__).resolve().parent.parent / "package.json"
OURS = {"logLevel"}
LIMITS = re.compile(r"from (\d+) to (\d+)$")

TEXTS = {
    "model": "The folder of a checkpoint; empty for the model that ships with the server.",
    "mode": "How the model fills the gap. All modes but `diffusion` and `native` write what `ar` "
    "would; they differ in speed.",
    "maxTokens": "The longest suggestion, in tokens.",
    "maxLines": "The longest suggestion, in lines.",
    "alternatives": "How many suggestions to choose from when you ask for them.",
    "prefixChars": "How many characters before the cursor the model is shown.",
    "suffixChars": "How many characters after the cursor the model is shown.",
    "threads": "CPU threads for the model; empty leaves it to torch.",
    "backend": "`engine` shares one model among all editors of this machine; `in_process` loads "
    "one for this window; `openai` and `llama_cpp` send the code around the cursor to "
    "`fim.remoteUrl`.",
    "remoteUrl": "The server that `openai` and `llama_cpp` ask, as `http://host:port/v1`.",
    "remoteModel": "The name of a model on that server.",
    "remoteTemplate": "How that server's model is shown a hole; empty leaves it to the server.",
    "speculate": "Prepare, while a suggestion is shown, what could follow it.",
    "engineIdleMinutes": "The shared engine leaves when it was not asked anything for so long.",
}


def properties() -> dict[str, Any]:
    """The `contributes.configuration` properties of all settings of the server."""
    hints = get_type_hints(Settings)
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    shown = (key for key in _RULES if key not in OURS)
    return {
        f"fim.{key}": one_property(key, order, hints[_RULES[key].field], defaults)
        for order, key in enumerate(shown, start=10)
    }


def one_property(key: str, order: int, hint: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    rule = _RULES[key]
    limits = LIMITS.search(rule.allowed)
    bounds = {"minimum": int(limits[1]), "maximum": int(limits[2])} if limits else {}
    text = TEXTS.get(key, f"{rule.allowed[0].upper()}{rule.allowed[1:]}.")
    return {
        **json_type(key, hint),
        **bounds,
        "default": defaults[rule.field],
        "order": order,
        "markdownDescription": text,
    }


def json_type(key: str, hint: Any) -> dict[str, Any]:
    """A setting's type as JSON schema."""
    names = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    kinds = [names.get(kind) for kind in get_args(hint) or (hint,)]
    if None in kinds:
        sys.exit(f"settings_schema: no JSON type for the setting {key} ({hint})")
    allowed = _RULES[key].allowed
    if allowed.startswith("one of "):
        nothing = [None] if "null" in kinds else []
        choice = {"enum": [*allowed.removeprefix("one of ").split(", "), *nothing]}
    else:
        choice = {}
    return {"type": kinds[0] if len(kinds) == 1 else kinds, **choice}


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
