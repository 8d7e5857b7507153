"""Logging to stderr and to a file, in a form that cannot carry the user's code.

The protocol library writes whole messages into some of its log lines (outgoing bodies at INFO,
parameters beside an error). It stays at WARNING, and of any library's record only the fixed text
and the kind of error are written.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from platformdirs import user_log_path

LogLevel = Literal["error", "warning", "info", "debug"]
LOG_LEVELS: tuple[LogLevel, ...] = ("error", "warning", "info", "debug")

_OURS = ("fim_server", "fim_model", "fim_training", "fim_kernels")


# From here on, a record that a library has formatted itself may show values (asyncio: results).
_QUOTES_BEGIN = re.compile(r"[\n(<]")


class SafeFormatter(logging.Formatter):
    """Formats our own records as they are; of a library's, what cannot quote a document."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.partition(".")[0] in _OURS:
            return super().format(record)
        clean = logging.makeLogRecord(record.__dict__)
        clean.msg = _QUOTES_BEGIN.split(str(record.msg))[0]
        if record.exc_info and (error := record.exc_info[1]):
            clean.msg += f" [{where(error)}]"
        clean.args = clean.exc_info = clean.exc_text = clean.stack_info = None
        return super().format(clean)


class LogFile(RotatingFileHandler):
    """A log that can no longer be written, on a full disk for one, is not written any more."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Instead of a stack trace on stderr for every record."""
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()


MOST_BYTES = 1 << 20
"""A log file of this size gives way to a new one; the one before it is kept."""


def log_file() -> Path:
    """Where the language server logs, in the platform's place."""
    return user_log_path("fim-server", appauthor=False) / "lsp.log"


def configure(level: LogLevel, file: Path | None = None) -> None:
    """Send this program's log to stderr and to `file`, and nothing to stdout, which is LSP's.

    A file that cannot be written is done without.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(LogFile(file, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8"))
    formatter = SafeFormatter("%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s")
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(handlers=handlers, level=logging.WARNING, force=True)
    set_level(level)


def set_level(level: LogLevel) -> None:
    """How much fim-server itself says; the libraries it uses stay at WARNING."""
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())


def where(error: BaseException) -> str:
    """The kind of an error and where it was raised, without its message: that may quote code."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
