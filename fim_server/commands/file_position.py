"""The position that a command is asked about: `FILE:LINE:COLUMN`, `--line`, `--column`, stdin."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lsprotocol import types as lsp

from fim_server.access.exclusions import resolved
from fim_server.commands.usage_error import UsageError
from fim_server.documents.documents import Encoding, Snapshot, split_lines, without_end
from fim_server.syntax.languages import language_of

STDIN = Path("-")

_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?:?")


@dataclass(frozen=True, slots=True)
class FilePosition:
    """A file and the cursor in it: `line` counts from 1, `column` from 0 in characters.

    `column` None is the end of the line, `line` None the end of the text. `file` is STDIN for text
    without a name. With `from_stdin` the text is read from stdin, not from the file.
    """

    file: Path
    line: int | None
    column: int | None
    from_stdin: bool

    def read(self) -> Snapshot:
        """The text as a document. Raises UsageError if it cannot be read."""
        if not self.from_stdin:
            return read_source(self.file)
        return _snapshot(self.file, sys.stdin.buffer.read(), "stdin")

    def in_text(self, snapshot: Snapshot) -> lsp.Position:
        """The cursor in the document. Raises UsageError if it is outside."""
        line = len(snapshot.lines) if self.line is None else self.line
        if not 1 <= line <= len(snapshot.lines):
            raise UsageError(
                f"{self.file}: line {line} is outside the file's 1 to {len(snapshot.lines)}"
            )
        width = len(without_end(snapshot.lines[line - 1]))
        column = width if self.column is None else self.column
        if not 0 <= column <= width:
            raise UsageError(f"{self.file}: column {column} is outside line {line}'s 0 to {width}")
        return lsp.Position(line - 1, column)


def position_of(arguments: argparse.Namespace) -> FilePosition:
    """The position that the arguments `file`, `--line`, `--column` and `--stdin` name.

    In `FILE:LINE:COLUMN` both numbers count from 1, as compilers and grep print them. Raises
    UsageError if no line is named and the text is not read from stdin.
    """
    text, line, column = arguments.file, arguments.line, arguments.column
    place = _PLACE.fullmatch(text)
    if place is not None and not Path(text).exists():
        if line is not None or column is not None:
            raise UsageError(f"{text}: names the line already; leave out --line and --column")
        text, line = place["file"], int(place["line"])
        if place["column"] is not None:
            column = int(place["column"]) - 1
            if column < 0:
                raise UsageError(f"{arguments.file}: columns count from 1 here")
    from_stdin = arguments.stdin or text == str(STDIN)
    if line is None and (column is not None or not from_stdin):
        raise UsageError(f"{text}: name a position: {text}:LINE:COLUMN, or --line and --column")
    return FilePosition(Path(text), line, column, from_stdin)


def read_source(path: Path) -> Snapshot:
    """A file as a document with positions in characters. Raises UsageError if unreadable."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as problem:  # a zero byte in the name is a ValueError
        why = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"{path}: cannot be read ({why})") from None
    return _snapshot(path, data, str(path))


def language_name(path: Path) -> str:
    """The LSP language id of a file, or its suffix if unknown."""
    known = language_of("", path.name)
    return known.names[0] if known else path.suffix.lstrip(".")


def _snapshot(path: Path, data: bytes, name: str) -> Snapshot:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise UsageError(
            f"{name}: byte {problem.start} is not UTF-8; convert it, for example with iconv"
        ) from None
    uri = "untitled:stdin" if path == STDIN else resolved(path).as_uri()
    return Snapshot(uri, language_name(path), 0, 0, Encoding.UTF32, split_lines(text))
