"""`fim-server bench …`: speed and memory on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend
from fim_server.commands.usage_error import UsageError
from fim_server.engine.client import EngineBackend
from fim_server.settings.settings import Settings

if TYPE_CHECKING:
    from rich.console import Group


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
                Settings(model=arguments.model, threads=arguments.threads),
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


def modes(arguments: argparse.Namespace) -> int:
    """Every mode and setting on the same holes; what `--mode auto` uses is kept."""
    from fim_model.decoding.auto import save_choice
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_training.evaluation.humaneval_infilling import load_tasks, spread_sample
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.backends.mode_choice import choice_file
    from fim_server.bench.chart import Point, scatter
    from fim_server.bench.mode_comparison import bench_modes
    from fim_server.bench.transformers_filler import transformers_filler
    from fim_server.commands.load_model import load_infiller

    infiller = load_infiller(arguments.model, arguments.threads)
    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("modes", total=None)
        try:
            tasks = spread_sample(load_tasks(arguments.data), arguments.limit)
            report = bench_modes(
                infiller,
                tasks,
                model=arguments.model or "default",
                data=arguments.data.name,
                compare=transformers_filler(infiller, folder),
                progress=lambda setting, done, total: bar.update(
                    task, description=setting, completed=done, total=total
                ),
            )
        except ValueError as unfit:
            raise UsageError(str(unfit)) from unfit
    chosen = next(one for one in report.results if one.name == report.chosen)
    assert chosen.choice is not None
    save_choice(choice_file(arguments.model), chosen.choice)
    if arguments.picture:
        points = [
            Point(one.p50_ms, one.pass_at_1, one.name, one.choice.mode if one.choice else one.name)
            for one in report.results
        ]
        arguments.picture.write_text(
            scatter(
                points,
                title="Quality against latency, by mode",
                x="milliseconds a hole, p50, cold",
                y="HumanEval-Infilling pass@1, %",
            ),
            encoding="utf-8",
        )
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        Console().print(report.as_table())
    return 0


def typing(arguments: argparse.Namespace) -> int:
    """Keystroke to answer over real files, with and without reuse; or in huge documents."""
    from fim_server.backends.openai import OpenAIBackend
    from fim_server.bench.keystrokes import typing_tasks
    from fim_server.bench.large import bench_large, large_tasks
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

    return _report(measure(), as_json=arguments.json)


def soak(arguments: argparse.Namespace) -> int:
    """Many sessions at one engine: errors, queue, memory."""
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

    return _report(measure(), as_json=arguments.json)


class _Report(Protocol):
    def as_json(self) -> dict[str, Any]: ...
    def as_tables(self) -> Group: ...


def _report(measuring: Coroutine[Any, Any, _Report], *, as_json: bool) -> int:
    from rich.console import Console

    try:
        report = asyncio.run(measuring)
    except (BackendError, ValueError) as problem:
        raise UsageError(str(problem)) from problem
    if as_json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        Console().print(report.as_tables())
    return 0
