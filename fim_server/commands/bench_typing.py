"""`fim-server bench typing`: keystroke-to-answer latency, with and without reuse."""

from __future__ import annotations

import argparse

from fim_server.commands.print_report import measured, print_report
from fim_server.engine.client import EngineBackend
from fim_server.settings.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the report; the exit code. Raises UsageError."""
    from fim_server.backends.openai import OpenAIBackend
    from fim_server.bench.keystrokes import typing_tasks
    from fim_server.bench.large import HUGE_LINES, bench_large, large_tasks
    from fim_server.bench.typing import TypingReport, bench_typing

    name, rate, seed = arguments.model or "default", arguments.rate, arguments.seed
    settings = Settings(model=arguments.model, threads=arguments.threads, mode=arguments.mode)

    async def measure() -> TypingReport:
        backend = EngineBackend(arguments.model, arguments.threads)
        other = None
        if arguments.against:
            other = OpenAIBackend(
                arguments.against, arguments.against_model, arguments.against_template
            )
        try:
            await backend.start(lambda what, share: None)
            if arguments.large:
                tasks = large_tasks(arguments.characters, seed)
                tasks |= large_tasks(arguments.characters, seed, lines=HUGE_LINES)
                return await bench_large(
                    backend, settings, model=name, tasks=tasks, keys_per_second=rate, seed=seed
                )
            if other is not None:
                await other.start(lambda what, share: None)
            places = typing_tasks(arguments.sessions, arguments.characters, seed)
            return await bench_typing(
                backend, settings, places, model=name, keys_per_second=rate, seed=seed, other=other
            )
        finally:
            await backend.close()
            if other is not None:
                await other.close()

    return print_report(measured(measure()), as_json=arguments.json)
