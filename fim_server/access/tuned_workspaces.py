"""Where the adapters of workspaces are, and which one belongs to a file.

An adapter is trained on a workspace by `fim-server tune` and stays on this machine, in the user's
data folder: NAME/, where NAME is a digest of the workspace's folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fim_model.requests import ADAPTER_FILE
from platformdirs import user_data_path

from fim_server.access.exclusions import resolved


def adapters_folder() -> Path:
    """The folder of all adapters; it need not exist."""
    return user_data_path("fim-server", appauthor=False) / "adapters"


def adapter_name(workspace: Path) -> str:
    """16 hexadecimal digits, the same for every path to the folder."""
    return _digest(resolved(workspace))


def tuned_folders() -> list[Path]:
    """The folders of the adapters that are there, in order."""
    return sorted(path.parent for path in adapters_folder().glob(f"*/{ADAPTER_FILE}"))


def adapter_for(file: Path, roots: Sequence[Path]) -> str:
    """The name of the adapter of the innermost workspace folder that has one, "" for none.

    A folder above a workspace folder may have been tuned as well: an editor may open a part of it.
    """
    # Asked at every key: without any adapter no path is resolved.
    if not (tuned := {folder.name for folder in tuned_folders()}):
        return ""
    real = resolved(file)
    if not any(real.is_relative_to(root) for root in roots):
        return ""
    return next((name for name in map(_digest, real.parents) if name in tuned), "")


def _digest(real: Path) -> str:
    return hashlib.sha256(str(real).encode("utf-8", "surrogatepass")).hexdigest()[:16]
