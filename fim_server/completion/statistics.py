"""Counts of what was shown and accepted, kept on this machine only and sent nowhere.

A process appends one line to a file when it ends, and every FLUSH_EVERY events: no text, no path,
no time but the day. `fim-server stats` adds the lines up.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from platformdirs import user_state_path

from fim_server.log import can_be_appended_to

logger = logging.getLogger(__name__)

FLUSH_EVERY = 200
"""Events after which the counts are written, so that a killed process loses few."""

COUNTS = (
    "requests",
    "offered",
    "shown",
    "accepted",
    "partly_accepted",
    "characters",
    "edits_offered",
    "edits_shown",
    "edits_accepted",
)
"""characters: of accepted text. offered: answers with a suggestion. shown: as reported by editors,
which not all do."""


def statistics_file() -> Path:
    """The path of the counts: one JSON object a line."""
    return user_state_path("fim-server", appauthor=False) / "statistics.jsonl"


class Statistics:
    """The counts of one process. With `enabled` False nothing is counted or written."""

    def __init__(self, file: Path, today: Callable[[], date] = date.today) -> None:
        self.enabled = True
        self._file = file
        self._today = today
        self._counts: Counter[str] = Counter()
        self._events = 0

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count: one of COUNTS, or `silence.REASON`."""
        if not self.enabled:
            return
        self._counts[name] += number
        self._events += 1
        if self._events >= FLUSH_EVERY:
            self.flush()

    def totals(self) -> dict[str, dict[str, int]]:
        """The counts of `today` and of all days as `total`, this process's included."""
        days = read_statistics(self._file)
        today = Counter(days.get(self._today().isoformat(), {}))
        total: Counter[str] = Counter()
        for counts in days.values():
            total.update(counts)
        both = {"today": today + self._counts, "total": total + self._counts}
        return {when: {name: counts[name] for name in COUNTS} for when, counts in both.items()}

    def flush(self) -> None:
        """Append the counts since the last flush. A write error drops them, with a warning."""
        if not self._counts:
            return
        line = json.dumps({"day": self._today().isoformat(), **self._counts}) + "\n"
        self._counts.clear()
        self._events = 0
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if not can_be_appended_to(self._file):
                raise OSError(errno.EINVAL, "it is not a regular file")
            with self._file.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as problem:
            logger.warning("statistics cannot be written (%s)", problem.strerror)


def read_statistics(file: Path) -> dict[str, dict[str, int]]:
    """The counts of each day, oldest first; malformed lines are skipped."""
    days: dict[str, Counter[str]] = {}
    with contextlib.suppress(OSError):
        if not file.is_file():  # a FIFO would wait, a device may have no end
            return {}
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                day, counts = _entry(line)
                days.setdefault(day, Counter()).update(counts)
    days.pop("", None)
    return {day: dict(days[day]) for day in sorted(days)}


def _entry(line: str) -> tuple[str, dict[str, int]]:
    try:
        values: Any = json.loads(line)
        day = values.pop("day")
        return str(day), {key: int(value) for key, value in values.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", {}
