"""What editors exclude beside `config.toml`, kept for commands that run without an editor.

A language server writes down the patterns that are in force for each of its workspace folders where
they are not those of `config.toml`, one file for each folder and client, in the user's data folder,
readable by its user alone. `fim-server tune` obeys them all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from fim_server.access.exclusions import Exclusions, resolved
from fim_server.access.tuned_workspaces import adapter_name


@dataclass(frozen=True, slots=True)
class EditorRules:
    """What one client excludes in one workspace folder."""

    workspace: str
    exclude: tuple[str, ...]
    gitignore: bool


class ExclusionsOfAll(Exclusions):
    """The rules of a folder, and of every editor that has opened it, or a folder around or in it.

    Raises ValueError where the rules of an editor cannot be read.
    """

    def __init__(self, root: Path, exclude: Sequence[str], *, gitignore: bool) -> None:
        super().__init__([root], exclude, gitignore=gitignore)
        self._editors = [
            Exclusions([Path(rules.workspace)], rules.exclude, gitignore=rules.gitignore)
            for rules in recorded_rules()
            if _overlap(Path(rules.workspace), self.roots[0])
        ]

    def why_not_read(self, path: Path) -> str | None:
        """See `Exclusions`: the first reason of any of them."""
        reason, real = super().why_not_read(path), resolved(path)
        for editor in self._editors:
            if reason is None and real.is_relative_to(editor.roots[0]):
                reason = editor.why_not_read(path)
        return reason


def rules_folder() -> Path:
    """Where the rules of editors are; it need not exist."""
    return user_data_path("fim-server", appauthor=False) / "exclusions"


def record_rules(root: Path, client: str, rules: EditorRules | None) -> None:
    """Write what a client excludes in a folder; None is nothing of its own. Raises OSError."""
    digest = hashlib.sha256(client.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    file = rules_folder() / f"{adapter_name(root)}-{digest}.json"
    if rules is None:
        file.unlink(missing_ok=True)
        return
    text = json.dumps(asdict(rules), indent=1)
    with contextlib.suppress(OSError, ValueError):
        if file.read_text(encoding="ascii") == text:
            return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
        new.write(text)
    unfinished.replace(file)


def recorded_rules() -> list[EditorRules]:
    """The rules of all editors and folders. Raises ValueError for a file that cannot be read."""
    return [_read(file) for file in sorted(rules_folder().glob("*.json"))]


def _read(file: Path) -> EditorRules:
    try:
        raw: Any = json.loads(file.read_text(encoding="ascii"))
        rules = EditorRules(raw["workspace"], tuple(raw["exclude"]), raw["gitignore"])
        texts = (rules.workspace, *rules.exclude)
        if not all(isinstance(text, str) for text in texts) or type(rules.gitignore) is not bool:
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{file}: what an editor excludes cannot be read; remove this file, and open the "
            "folder in your editor once more"
        ) from None
    return rules


def _overlap(one: Path, other: Path) -> bool:
    """Whether one of two folders is, or is in, the other."""
    return one.is_relative_to(other) or other.is_relative_to(one)
