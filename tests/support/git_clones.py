"""Small git histories with known commits."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person\n"
_WHO = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")


def write_clone(
    folder: Path, commits: Sequence[tuple[str, Mapping[str, str]]], licence: str = MIT
) -> Path:
    """A repository with these commits (subject, files that it writes), after a first one that adds
    the licence."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for subject, files in [("start", {"LICENSE": licence} if licence else {"x": ""}), *commits]:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="")
        git(folder, "add", "-A")
        git(folder, *_WHO, "commit", "-q", "-m", subject)
    return folder


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
