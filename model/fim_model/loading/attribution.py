"""A base's licence and provenance, which go with every checkpoint that is made from it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fim_model.errors import CheckpointError
from fim_model.loading.headers import read_json

PROVENANCE = "provenance.json"
LICENCE_FILE = re.compile(r"(?:un)?licen[sc]e(?:[.-].*)?|copying(?:\..*)?", re.IGNORECASE)
NOTICE = "NOTICE"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of the base that a checkpoint was made from; "" for what is not known.

    licence: as the base states it. file: the base's weights; package: what they were shipped in.
    """

    name: str = ""
    licence: str = ""
    file: str = ""
    package: str = ""

    @classmethod
    def read(cls, folder: Path) -> Provenance | None:
        """None for a checkpoint without a base. Raises CheckpointError for a damaged file."""
        if not (folder / PROVENANCE).is_file():
            return None
        found = read_json(folder / PROVENANCE)
        return cls(*(str(found.get(name) or "") for name in cls.__slots__))


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
