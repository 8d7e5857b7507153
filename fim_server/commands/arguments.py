"""Arguments shared by several commands, and the parsers of their values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fim_model.requests import MODES

from fim_server.commands.user_settings import with_configured_model
from fim_server.settings.settings import BACKENDS, Settings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction


def lazily(module: str, command: str) -> Callable[[argparse.Namespace], int]:
    """The function `command` of a module in this package, imported when it is called."""

    def run(arguments: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"fim_server.commands.{module}"), command)(arguments)
        return code

    return run


def measuring(module: str, command: str) -> Callable[[argparse.Namespace], int]:
    """As `lazily`, for a measurement of the model that the user's settings name."""

    def run(arguments: argparse.Namespace) -> int:
        return lazily(module, command)(with_configured_model(arguments))

    return run


def add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE[:LINE[:COLUMN]]",
        help="both counted from 1, as compilers print them; without COLUMN the line's end; - reads "
        "the text before the cursor from stdin",
    )
    parser.add_argument("--line", type=whole, help="counted from 1")
    parser.add_argument("--column", type=whole, help="characters, counted from 0")
    parser.add_argument(
        "--stdin",
        action="store_true",
        help="read the text of FILE from stdin, such as unsaved text",
    )
    parser.add_argument(
        "--open", type=Path, nargs="+", default=[], metavar="FILE", help="files open beside it"
    )


def add_model_options(parser: argparse.ArgumentParser, mode: str | None = Settings().mode) -> None:
    parser.add_argument("--mode", choices=MODES, default=mode)
    add_loading_options(parser)


def add_backend_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=BACKENDS, help="what runs the model; default: the setting backend"
    )


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="ID_OR_PATH",
        help="default: the setting model, or else the model that ships",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads")


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def process_id(text: str) -> int | None:
    """Parse a process id, which some clients fill with `null` or nothing."""
    return None if text in ("", "null", "None", "undefined") else whole(text)


def positive(text: str) -> int:
    """A whole number from 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def port(text: str) -> int:
    """The number of a TCP port."""
    value = whole(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port number, 1 to 65535")
    return value


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def minutes(text: str) -> float:
    """A number of minutes above 0."""
    value = number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
