"""Run a benchmark and print its report, for the commands `fim-server bench …`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fim_server.backends.base import BackendError
from fim_server.commands.terminal import print_whole
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from rich.console import Group


class Report(Protocol):
    def as_json(self) -> dict[str, Any]: ...
    def as_tables(self) -> Group: ...


R = TypeVar("R")


def measured(measuring: Coroutine[Any, Any, R]) -> R:
    """The report of a benchmark. Raises UsageError if it cannot run."""
    try:
        return asyncio.run(measuring)
    except (BackendError, ValueError) as problem:
        raise UsageError(str(problem)) from problem


def print_report(report: Report, *, as_json: bool) -> int:
    """Print the report as tables or as one JSON object; exit code 0."""
    from rich.console import Console

    if as_json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        print_whole(Console(), report.as_tables())
    return 0
