"""Where what was measured of a model on this machine is kept: the meaning of mode `auto` (`bench
modes`), and whether it follows instructions."""

from __future__ import annotations

import contextlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from platformdirs import user_cache_path

from fim_server.backends.processor import processor_name

if TYPE_CHECKING:
    from fim_model.decoding.auto import MeasuredOn, ModeChoice


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
    """The measured mode of a model, or the default if none was measured with these weights, this
    processor and this torch."""
    from fim_model.decoding.auto import ModeChoice

    return kept_choice(model) or ModeChoice()


def kept_choice(model: str | None) -> ModeChoice | None:
    """The measured mode of a model, None without one that holds for what is here now."""
    from fim_model.decoding.auto import load_choice

    file = choice_file(model)
    if not file.is_file() or (measured := _measured_on(model)) is None:
        return None
    return load_choice(file, measured)


def keep_choice(model: str | None, choice: ModeChoice) -> None:
    """Write the mode that was measured for a model."""
    from fim_model.decoding.auto import save_choice

    if (measured := _measured_on(model)) is not None:
        save_choice(choice_file(model), choice, measured)


def _measured_on(model: str | None) -> MeasuredOn | None:
    """What a measurement of this model holds for, None where its weights are not here."""
    from fim_model.decoding.auto import MeasuredOn
    from fim_model.errors import CheckpointError
    from fim_model.loading.adapters import base_digest
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_model.loading.hub import on_this_machine

    with contextlib.suppress(CheckpointError, OSError):
        if (folder := on_this_machine(model or default_checkpoint())) is not None:
            torch = metadata.version("torch")
            return MeasuredOn(base_digest(folder), processor_name(), torch)
    return None
