"""`fim-server bench soak`: many sessions typing at one engine; errors, queue and memory."""

from __future__ import annotations

import argparse

from fim_server.commands.print_report import measured, print_report
from fim_server.engine.client import EngineBackend
from fim_server.settings.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the report; the exit code. Raises UsageError."""
    from fim_server.bench.soak import SoakReport, bench_soak

    async def measure() -> SoakReport:
        backend = EngineBackend(arguments.model, arguments.threads)
        try:
            await backend.start(lambda what, share: None)
            return await bench_soak(
                backend,
                Settings(model=arguments.model, threads=arguments.threads, mode=arguments.mode),
                sessions=arguments.sessions,
                seconds=arguments.seconds,
                keys_per_second=arguments.rate,
                characters=arguments.characters,
                kill=arguments.kill,
            )
        finally:
            await backend.close()

    return print_report(measured(measure()), as_json=arguments.json)
