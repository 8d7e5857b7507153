"""Where `bench modes` keeps what it measured: the meaning of mode `auto` on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from platformdirs import user_cache_path

if TYPE_CHECKING:
    from fim_model.decoding.auto import ModeChoice


def choice_file(model: str | None) -> Path:
    """One file for each model, in the user's cache folder."""
    try:
        name = Path(model).resolve().as_posix() if model else "default"
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links
        name = str(model)
    return user_cache_path("fim-server") / "modes" / (quote(name, safe="") + ".json")


def measured_choice(model: str | None) -> ModeChoice:
    """The measured mode of a model, or the default if none was measured."""
    from fim_model.decoding.auto import load_choice

    return load_choice(choice_file(model))
