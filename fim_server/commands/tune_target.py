"""Which job `fim-server tune` means: a workspace's folder names it, or the name of its adapter.

The folder may be gone: what was learned from it stays until it is removed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fim_model.requests import ADAPTER_NAME

from fim_server.access.exclusions import resolved
from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from fim_training.tuning.tuning_job import TuningJob


@dataclass(frozen=True, slots=True)
class TuneTarget:
    """A job. workspace: its folder, "" where neither the user nor the job's state says."""

    job: TuningJob
    workspace: str

    @property
    def name(self) -> str:
        """The name of the adapter."""
        return self.job.folder.name

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return self.workspace or self.name

    @property
    def is_gone(self) -> bool:
        """Whether the workspace was deleted or moved."""
        return bool(self.workspace) and not _is_folder(Path(self.workspace))

    @property
    def removal(self) -> str:
        """The command that removes it, to be pasted into a shell."""
        known = self.workspace and not self.is_gone
        return f"fim-server tune {shlex.quote(self.workspace) if known else self.name} --remove"


def target_of(given: Path, *, must_exist: bool) -> TuneTarget:
    """What a command line's FOLDER means. Raises UsageError for nothing that is known.

    must_exist: whether only a folder will do, and no name of an adapter or folder that is gone.
    """
    from fim_training.tuning.tuning_job import TuningJob

    root = resolved(given)
    if _is_folder(root):
        return TuneTarget(TuningJob(adapters_folder() / adapter_name(root)), str(root))
    if must_exist:
        raise UsageError(f"{given}: not a folder; give the one that your editor opens")
    names = [adapter_name(root)]
    if ADAPTER_NAME.fullmatch(str(given)):
        names.append(str(given))
    for name in names:
        if _is_folder(adapters_folder() / name):
            return _of_name(name)
    raise UsageError(
        f"{given}: not a folder, and nothing is kept of one; fim-server tune --list shows what is"
    )


def all_targets() -> list[TuneTarget]:
    """Everything that tuning has left on this machine, by name."""
    try:
        names = sorted(path.name for path in adapters_folder().iterdir() if path.is_dir())
    except OSError:
        return []
    return [_of_name(name) for name in names if ADAPTER_NAME.fullmatch(name)]


def _of_name(name: str) -> TuneTarget:
    from fim_training.tuning.tuning_job import TuningJob

    job = TuningJob(adapters_folder() / name)
    state = job.state
    return TuneTarget(job, state.workspace if state else "")


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, as far as the user may know."""
    try:
        return path.is_dir()
    except PermissionError:
        return True
    except (OSError, ValueError):  # such as a name that is too long
        return False
