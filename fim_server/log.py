"""Logging to stderr that cannot carry the user's code.

The protocol library writes whole messages into some of its log lines (outgoing bodies at INFO,
parameters beside an error). It stays at WARNING, and of any library's record only the fixed text
and the kind of error are written.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from pathlib import Path

from fim_server.settings import LogLevel

_OURS = ("fim_server", "fim_model", "fim_kernels")


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


def configure(level: LogLevel) -> None:
    """Send this program's log to stderr, and nothing to stdout, which belongs to LSP."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
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
