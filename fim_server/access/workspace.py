"""The workspace folders of a client, and which documents in them the model may see."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pygls.uris import to_fs_path

from fim_server.access.exclusions import Exclusions, resolved
from fim_server.access.tuned_workspaces import adapter_for
from fim_server.settings.settings import Settings


class Workspace:
    """Workspace folders with their exclusion rules; replaced when folders or settings change."""

    def __init__(self, roots: Sequence[Path] = (), settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.trusted = settings.workspace_trusted
        self._adapted = settings.adapter
        self.exclusions = Exclusions(roots, settings.exclude, gitignore=settings.gitignore)

    @property
    def roots(self) -> tuple[Path, ...]:
        return self.exclusions.roots

    def why_not_show(self, uri: str) -> str | None:
        """Why an open document may not be shown to the model; None if it may.

        A document that is not a file is checked by its name only.
        """
        path = file_of(uri) or _name_of(uri)
        return self.exclusions.why_not_show(path) if path else None

    def adapter_of(self, uri: str) -> str:
        """The name of the adapter for a document, "" where there is none, or none is wanted."""
        path = file_of(uri) if self._adapted else None
        return "" if path is None else adapter_for(path, self.roots)

    def shown_path(self, uri: str) -> str:
        """The path shown to the model: relative to the workspace folder, or else the file name.

        With several workspace folders, the path begins with the folder's name.
        """
        path = file_of(uri) or _name_of(uri)
        if path is None:
            return ""
        real = resolved(path)
        for root in self.roots:
            if real.is_relative_to(root):
                inside = _encodable(real.relative_to(root).as_posix())
                return f"{root.name}/{inside}" if len(self.roots) > 1 else inside
        return _encodable(path.name)


def file_of(uri: str) -> Path | None:
    """The file that a URI names; None for a document that is not a file, such as an unsaved one.

    No file has a name with half of a surrogate pair or a zero byte, or a relative path.
    """
    try:
        path = to_fs_path(uri) if uri.startswith("file:") else None
        os.fsencode(path or "")
    except ValueError:
        return None
    if not path or "\0" in path:
        return None
    file = Path(path)
    return file if file.is_absolute() else None


def _encodable(name: str) -> str:
    """The name as the model can be given it, with `?` for halves of surrogate pairs."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _name_of(uri: str) -> Path | None:
    """The name of a document that is not a file, such as a notebook cell."""
    try:
        name = Path(urlsplit(uri).path).name
    except ValueError:
        return None
    return Path(name) if name and "\0" not in name else None
