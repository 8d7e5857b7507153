"""`fim-server bench latency`: cold and warm completions in every mode, and the server process."""

from __future__ import annotations

import argparse

from fim_server.backends.in_process import InProcessBackend
from fim_server.commands.print_report import measured, print_report
from fim_server.commands.usage_error import UsageError
from fim_server.settings.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the report; the exit code. Raises UsageError."""
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
                Settings(model=arguments.model, threads=arguments.threads),
                model=arguments.model or "default",
                samples=arguments.samples,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except ProbeError as problem:
            raise UsageError(str(problem)) from problem
        finally:
            await backend.close()

    with Progress(console=Console(stderr=True), transient=True) as bar:
        report = measured(measure(bar))
    return print_report(report, as_json=arguments.json)
