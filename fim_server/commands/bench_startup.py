"""`fim-server bench startup`: from the start of the server to the answer to `initialize`."""

from __future__ import annotations

import argparse

from fim_server.commands.print_report import measured, print_report
from fim_server.commands.usage_error import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the report; the exit code. Raises UsageError."""
    from fim_server.bench.server_probe import ProbeError
    from fim_server.bench.startup import bench_startup

    try:
        report = measured(bench_startup(arguments.starts))
    except ProbeError as problem:
        raise UsageError(f"the server: {problem}") from problem
    return print_report(report, as_json=arguments.json)
