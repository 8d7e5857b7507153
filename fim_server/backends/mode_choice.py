"""Where what was measured of a model on this machine is kept: the meaning of mode `auto` (`bench
modes`), and whether it follows instructions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from platformdirs import user_cache_path

if TYPE_CHECKING:
    from fim_model.decoding.auto import ModeChoice


def choice_file(model: str | None) -> Path:
    """The mode of a model, in the user's cache folder."""
    return user_cache_path("fim-server") / "modes" / f"{_name(model)}.json"


def score_files(model: str | None) -> tuple[Path, ...]:
    """Where a model's score of instructions may stand: its own folder, then the user's cache.

    The name of the second one tells the file's size and date, since another model may take its
    place.
    """
    from fim_model.calibration.instruction_score import INSTRUCTIONS

    path = Path(model) if model else None
    mark = ""
    own: tuple[Path, ...] = ()
    with contextlib.suppress(OSError, ValueError):
        if path is not None and path.is_dir():
            own = (path / INSTRUCTIONS,)
            path = path / "config.json"
        if path is not None and path.is_file():
            about = path.stat()
            mark = f"-{about.st_size}-{about.st_mtime_ns}"
    name = f"{_name(model)}{mark}.json"
    return (*own, user_cache_path("fim-server") / "instructions" / name)


def _name(model: str | None) -> str:
    try:
        name = Path(model).resolve().as_posix() if model else "default"
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links
        name = str(model)
    return quote(name, safe="")


def measured_choice(model: str | None) -> ModeChoice:
    """The measured mode of a model, or the default if none was measured."""
    from fim_model.decoding.auto import load_choice

    return load_choice(choice_file(model))
