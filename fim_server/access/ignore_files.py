"""Lookup in `.gitignore` and `.fimignore` files, which apply to their folder and all below it."""

from __future__ import annotations

import codecs
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import pathspec

MAX_BYTES = 1 << 20
"""Maximum size of a pattern file; the rest is ignored."""


@dataclass(frozen=True, slots=True)
class _Patterns:
    """A parsed pattern file; `stamp` (mtime, size) tells whether the file has changed since."""

    stamp: tuple[int, int] | None
    lines: list[str]
    spec: pathspec.GitIgnoreSpec


class IgnoreFiles:
    """The pattern files called `name` in a folder tree, each reread only when it changes."""

    def __init__(self, name: str, at_top: str = "") -> None:
        """`at_top` is the path, below the top of the tree, of an additional pattern file that
        applies to the whole tree (git's `.git/info/exclude`)."""
        self.name = name
        self._at_top = at_top
        self._read: dict[Path, _Patterns] = {}

    def pattern_for(self, top: Path, parts: tuple[str, ...]) -> str | None:
        """The pattern that ignores the file `top/parts`, as `FILE: PATTERN`; None if none does.

        As in git, pattern files in deeper folders override those above them, later patterns
        override earlier ones, and a file in an ignored folder cannot be re-included.
        """
        for end in range(1, len(parts) + 1):
            if found := self._decision(top, parts[:end], is_folder=end < len(parts)):
                return found
        return None

    def _decision(self, top: Path, parts: tuple[str, ...], *, is_folder: bool) -> str | None:
        for depth in range(len(parts) - 1, -1, -1):
            files = [top.joinpath(*parts[:depth], self.name)]
            if depth == 0 and self._at_top:
                files.append(top / self._at_top)
            for file in files:
                patterns = self._patterns(file)
                found = patterns.spec.check_file("/".join(parts[depth:]) + "/" * is_folder)
                if found.include and found.index is not None:
                    return f"{file.relative_to(top).as_posix()}: {patterns.lines[found.index]}"
                if found.include is False:
                    return None
        return None

    def _patterns(self, file: Path) -> _Patterns:
        stamp = _stamp(file)
        known = self._read.get(file)
        if known is None or known.stamp != stamp:
            lines = _lines(file) if stamp else []
            known = _Patterns(stamp, lines, pathspec.GitIgnoreSpec.from_lines(lines))
            self._read[file] = known
        return known


def _stamp(file: Path) -> tuple[int, int] | None:
    """Modification time and size; None unless a regular file (git follows no links here either)."""
    try:
        status = file.lstat()
    except (OSError, ValueError):
        return None
    return (status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _lines(file: Path) -> list[str]:
    """The lines of a file that are valid patterns."""
    try:
        # O_NONBLOCK: never wait for a pipe that has taken the file's place.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as opened:
            data = opened.read(MAX_BYTES) or b""
    except (OSError, ValueError):
        return []
    return [line for line in _text(data).splitlines() if _is_pattern(line)]


def _text(data: bytes) -> str:
    """The text of a pattern file: UTF-8, whose mark git ignores too, or UTF-16 with its mark, which
    PowerShell writes."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return os.fsdecode(data.removeprefix(codecs.BOM_UTF8))


def _is_pattern(line: str) -> bool:
    try:
        pathspec.GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):  # such as `[z-a]`, which matches nothing in git either
        return False
    return bool(line.strip())
