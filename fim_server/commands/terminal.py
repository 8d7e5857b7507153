"""Writing to a terminal: any encoding, any width, and no control characters from files."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""C0 without tab and line feed, delete, C1, and the marks that change the direction of text."""

_ASCII = str.maketrans("│┃·→←▏░█─━╸╺…–—’‘“”≥≤×", "||-><|#=----.--''\"\"><x")
_REPLACE = "fim-server-ascii"


def visible(text: str) -> str:
    """`text` with a visible character for each control character, which a terminal would obey.

    One character replaces one, so that positions stay valid. Line feeds and tabs are kept.
    """
    return _CONTROLS.sub(_picture, text)


def print_error(line: str) -> None:
    """Write one line to stderr, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(visible(line) + "\n")


def prepare_streams() -> None:
    """Make stdout and stderr accept all characters, whatever their encoding, and exist.

    A process may be started with closed streams (`>&-`): Python then has None in their place.
    """
    codecs.register_error(_REPLACE, _replacement)
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_REPLACE)


def discard_output() -> None:
    """Drop what stdout still holds: it cannot be written, and Python writes it when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_whole(console: Console, renderable: RenderableType) -> None:
    """Print a table at its full width: a narrow terminal wraps its lines, and nothing is cut."""
    from rich.measure import Measurement

    needed = Measurement.get(console, console.options.update(width=10_000), renderable).maximum
    width = console.width
    console.width = max(width, needed)
    try:
        console.print(renderable, soft_wrap=False)
    finally:
        console.width = width


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures of Unicode
    return "\u2421" if code == 0x7F else "\ufffd"


def _replacement(error: UnicodeError) -> tuple[str, int]:
    """The handler of characters that an encoding lacks: a similar ASCII character, or `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return "".join(char if char.isascii() else "?" for char in text), error.end
