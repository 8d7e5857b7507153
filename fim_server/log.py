"""Logging to stderr and to a file, without ever writing the user's code.

pygls logs whole messages (outgoing bodies at INFO, parameters with errors). Libraries are therefore
kept at WARNING, and of their records only the constant text and the type of error are written.
"""

from __future__ import annotations

import contextlib
import logging
import re
import stat
import sys
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal, TextIO

from platformdirs import user_log_path

LogLevel = Literal["error", "warning", "info", "debug"]
LOG_LEVELS: tuple[LogLevel, ...] = ("error", "warning", "info", "debug")

_OURS = ("fim_server", "fim_model", "fim_training", "fim_kernels")


# In records that a library has formatted itself, values may follow these characters.
_QUOTES_BEGIN = re.compile(r"[\n(<]")
_PLACEHOLDER = re.compile(r"""(["']?)%(?:\(\w+\))?[-#0 +]*[\d.*]*[a-zA-Z]\1""")


class SafeFormatter(logging.Formatter):
    """Formats our own records unchanged, and removes what may quote a document from others."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.partition(".")[0] in _OURS:
            return super().format(record)
        clean = logging.makeLogRecord(record.__dict__)
        text = _QUOTES_BEGIN.split(str(record.msg))[0]
        clean.msg = _PLACEHOLDER.sub("…", text).replace("%%", "%")
        if record.exc_info and (error := record.exc_info[1]):
            clean.msg += f" [{where(error)}]"
        clean.args = clean.exc_info = clean.exc_text = clean.stack_info = None
        return super().format(clean)


class LogFile(RotatingFileHandler):
    """A log file that is closed when it cannot be written, for example because the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop writing to the file, instead of printing a stack trace for every record."""
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()


class ErrorStream(logging.StreamHandler[TextIO]):
    """stderr, which may be closed or have no reader any more: then nothing is written."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop writing, instead of failing again for every record."""
        logging.getLogger().removeHandler(self)


def can_be_appended_to(file: Path) -> bool:
    """Whether a file is a regular one or a device, or does not exist: opening a FIFO would wait for
    a reader."""
    try:
        mode = file.stat().st_mode
        return stat.S_ISREG(mode) or stat.S_ISCHR(mode)
    except FileNotFoundError:
        return True
    except OSError:
        return False


MAX_BYTES = 1 << 20
"""Size at which a log file is rotated; one older file is kept."""


def log_file() -> Path:
    """Path of the language server's log, in the platform's log folder."""
    return user_log_path("fim-server", appauthor=False) / "lsp.log"


def configure(level: LogLevel, file: Path | None = None) -> None:
    """Send the log to stderr and to `file`, if it can be written; stdout belongs to LSP."""
    handlers: list[logging.Handler] = []
    if sys.stderr is not None:
        handlers.append(ErrorStream(sys.stderr))
    if file is not None:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            if can_be_appended_to(file):
                handlers.append(
                    LogFile(
                        file,
                        maxBytes=MAX_BYTES,
                        backupCount=1,
                        encoding="utf-8",
                        errors="backslashreplace",
                    )
                )
    formatter = SafeFormatter("%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s")
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(handlers=handlers, level=logging.WARNING, force=True)
    set_level(level)


def set_level(level: LogLevel) -> None:
    """Set the level of fim-server's own loggers; libraries stay at WARNING."""
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())


def where(error: BaseException) -> str:
    """The type of an error and where it was raised, without its message, which may quote code."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
