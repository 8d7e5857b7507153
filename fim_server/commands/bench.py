"""`fim-server bench …`: speed and memory on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend
from fim_server.commands.errors import UsageError
from fim_server.settings import Settings


def latency(arguments: argparse.Namespace) -> int:
    """Cold and warm completions in every mode, and the server process from outside."""
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.bench.latency import LatencyReport, bench_latency
    from fim_server.bench.server_probe import ProbeError

    async def measure(bar: Progress) -> LatencyReport:
        task = bar.add_task("completions", total=None)
        backend = InProcessBackend(arguments.model, arguments.threads)
        try:
            await backend.start(lambda what, share: None)
            return await bench_latency(
                backend,
                Settings(),
                model=arguments.model or "default",
                samples=arguments.samples,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        finally:
            await backend.close()

    with Progress(console=Console(stderr=True), transient=True) as bar:
        try:
            report = asyncio.run(measure(bar))
        except (BackendError, ProbeError, ValueError) as problem:
            raise UsageError(str(problem)) from problem
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        Console().print(report.as_tables())
    return 0
