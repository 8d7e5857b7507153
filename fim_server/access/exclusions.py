"""Files that the model must not see, decided by name and location before a file is opened.

Checked in this order: links that leave the workspace, names of secrets, the user's `exclude`
patterns, `.fimignore`, `.gitignore`. Every refusal names the rule that caused it.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from pathlib import Path

import pathspec

from fim_server.access.ignore_files import IgnoreFiles
from fim_server.access.secret_names import secret_pattern

OUTSIDE = "it is outside the workspace"
LINK = "it is a link that leaves the workspace"


class Exclusions:
    """The exclusion rules for one client's workspace folders."""

    def __init__(
        self, roots: Sequence[Path] = (), exclude: Sequence[str] = (), *, gitignore: bool = True
    ) -> None:
        """`exclude` are patterns as in `.gitignore`, relative to each workspace folder."""
        self.roots = tuple(dict.fromkeys(resolved(root) for root in roots))
        self._lexical_roots = tuple(_absolute(root) for root in roots)
        self._exclude = list(exclude)
        self._exclude_spec = pathspec.GitIgnoreSpec.from_lines(self._exclude)
        self._ignores = [IgnoreFiles(".fimignore")]
        if gitignore:
            self._ignores.append(IgnoreFiles(".gitignore", at_top=".git/info/exclude"))

    def why_not_read(self, path: Path) -> str | None:
        """Why a file that the user has not opened may not be read; None if it may."""
        return self._verdict(path, outside_allowed=False)

    def why_not_show(self, path: Path) -> str | None:
        """Why an open document may not be shown to the model; None if it may.

        Unlike a file that is read for context, it may be outside the workspace.
        """
        return self._verdict(path, outside_allowed=True)

    def _verdict(self, path: Path, *, outside_allowed: bool) -> str | None:
        named, real = _absolute(path), resolved(path)
        if self._root_of(real) is None:
            if any(named.is_relative_to(root) for root in self._lexical_roots):
                return LINK
            if not outside_allowed:
                return OUTSIDE
        # Both names are checked: a link called notes.txt may lead to .env, and vice versa.
        for candidate in dict.fromkeys((real, resolved(named.parent) / named.name)):
            if reason := self._by_name(candidate):
                return reason
        return None

    def _by_name(self, path: Path) -> str | None:
        """Why a path is excluded by its name; links in its folder are already resolved."""
        root = self._root_of(path) or repository_of(path.parent) or path.parent
        inside = path.relative_to(root).as_posix()
        if pattern := secret_pattern(inside):
            return f"its name matches a pattern for secrets ({pattern})"
        if pattern := self._excluded_by(inside):
            return f"setting exclude: {pattern}"
        top = repository_of(root) or root
        for ignores in self._ignores:
            if found := ignores.pattern_for(top, path.relative_to(top).parts):
                return found
        return None

    def _excluded_by(self, inside: str) -> str | None:
        parts = inside.split("/")
        for end in range(1, len(parts) + 1):
            found = self._exclude_spec.check_file("/".join(parts[:end]) + "/" * (end < len(parts)))
            if found.include and found.index is not None:
                return self._exclude[found.index]
        return None

    def _root_of(self, real: Path) -> Path | None:
        """The innermost workspace folder that holds the file."""
        holding = [root for root in self.roots if real.is_relative_to(root) and real != root]
        return max(holding, key=lambda root: len(root.parts), default=None)


def repository_of(folder: Path) -> Path | None:
    """The innermost folder that contains `.git`, from `folder` upwards; None if there is none."""
    for candidate in (folder, *folder.parents):
        try:
            if (candidate / ".git").exists():
                return candidate
        except (OSError, ValueError):
            return None
    return None


def resolved(path: Path) -> Path:
    """The real path, or the absolute one if the path cannot be resolved. Never raises.

    A path cannot be resolved in a loop of links, or if it is not a valid file name, such as one
    with half of a surrogate pair.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return _absolute(path)


def _absolute(path: Path) -> Path:
    """The absolute path without `..`, following no links."""
    try:
        return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow links
    except OSError:  # the working directory was deleted
        return Path("/") / path
