"""`.gitignore` and `.fimignore`: the patterns of the patterns' own folder and all below it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pathspec

MOST_BYTES = 1 << 20
"""A longer file of patterns is cut there."""


@dataclass(frozen=True, slots=True)
class _Patterns:
    """One file of patterns; `stamp` tells whether the file is still the one that was read."""

    stamp: tuple[int, int] | None
    lines: list[str]
    spec: pathspec.GitIgnoreSpec


class IgnoreFiles:
    """Answers from the files named `name` in a tree, each read again only when it changed."""

    def __init__(self, name: str, at_top: str = "") -> None:
        """`at_top` is a further file, at that path below the tree's top, that counts as one there
        (git's `.git/info/exclude`)."""
        self.name = name
        self._at_top = at_top
        self._read: dict[Path, _Patterns] = {}

    def pattern_for(self, top: Path, parts: tuple[str, ...]) -> str | None:
        """What ignores the file `top/parts`, as `FILE: PATTERN`; None if nothing does.

        As in git, deeper files overrule upper ones, the last pattern of a file those before it, and
        what is in an ignored folder cannot be taken back.
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
    """None for what is no ordinary file; git does not follow such links either."""
    try:
        status = file.lstat()
    except (OSError, ValueError):
        return None
    return (status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _lines(file: Path) -> list[str]:
    """The lines that are patterns."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES)
    except OSError:
        return []
    return [line for line in os.fsdecode(data).splitlines() if _is_pattern(line)]


def _is_pattern(line: str) -> bool:
    try:
        pathspec.GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return bool(line.strip())
