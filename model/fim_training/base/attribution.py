"""A base's licence and provenance, which go with every checkpoint that is made from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from fim_model.errors import CheckpointError

from fim_training.corpus.folder_sources import LICENCE_FILE

PROVENANCE = "provenance.json"
NOTICE = "NOTICE"


def copy_attribution(base: Path, folder: Path) -> None:
    """Copy licences, notices and provenance of the checkpoint in `base`."""
    for path in base.iterdir():
        named = path.name == PROVENANCE or path.name.startswith(NOTICE) or _is_licence(path)
        if named and path.is_file():
            shutil.copyfile(path, folder / path.name)


def check_attribution(folder: Path) -> None:
    """Raise CheckpointError for a checkpoint made from a base whose licence is not beside it."""
    if (folder / PROVENANCE).is_file() and not any(map(_is_licence, folder.iterdir())):
        raise CheckpointError(
            f"{folder}: {PROVENANCE} names a base, but the base's licence is missing; copy it "
            "there as LICENSE.base"
        )


def _is_licence(path: Path) -> bool:
    return LICENCE_FILE.fullmatch(path.name) is not None and path.is_file()
