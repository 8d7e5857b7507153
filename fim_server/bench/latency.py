"""`fim-server bench latency`: time single-line completions, cold and warm, in each mode.

Cold is the first completion in a document, with nothing cached. Warm is the next one in the same
session, a few typed characters later. Times are taken around the backend's call; requests use the
server's window and limits; every mode runs once before anything is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, quantiles
from typing import Any

from fim_model.requests import MODES, CompletionRequest, CompletionStats, Mode
from rich.console import Group
from rich.table import Table

from fim_server.backends.base import Backend
from fim_server.bench.machine import Machine, machine_description
from fim_server.bench.samples import Keystrokes, bundled_samples, requests_while_typing
from fim_server.bench.server_probe import SERVER, ServerFigures, probe_server
from fim_server.settings.settings import Settings

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)`."""

DEFAULT_SAMPLES = 20
MEASURED_MODES: tuple[Mode, ...] = tuple(mode for mode in MODES if mode != "auto")
"""Without `auto`, which resolves to one of the others."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One completion: milliseconds as the caller saw them, and its cost."""

    ms: float
    stats: CompletionStats


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Figures of `n` completions: linearly interpolated percentiles, and means.

    `tokens_per_forward` is all tokens over all forwards, including prefill, draft and verify.
    """

    n: int
    p50_ms: float
    p95_ms: float
    forwards: float
    tokens: float
    tokens_per_forward: float
    prefill_tokens: float
    reused_tokens: float


@dataclass(frozen=True, slots=True)
class ModeFigures:
    cold: LatencyFigures
    warm: LatencyFigures


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """`server` is None if the server process was not measured."""

    model: str
    machine: Machine
    modes: dict[Mode, ModeFigures]
    server: ServerFigures | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_tables(self) -> Group:
        """Tables for the terminal: completions with the machine, then the server process."""
        return Group(
            _completion_table(self), *([_server_table(self.server)] if self.server else [])
        )


async def bench_latency(
    backend: Backend,
    settings: Settings,
    *,
    model: str,
    samples: int = DEFAULT_SAMPLES,
    server_command: Sequence[str] | None = SERVER,
    progress: Progress | None = None,
) -> LatencyReport:
    """Measure a started backend on the bundled samples, then a fresh server process.

    `settings` holds the model and the threads of the started backend, and passes them on to the
    server process; `server_command=None` skips that process. Raises ValueError for fewer than one
    sample, BackendError and ProbeError.
    """
    if samples < 1:
        raise ValueError(f"{samples} samples: at least one is needed")
    chosen = bundled_samples(samples)
    modes = await measure_modes(backend, chosen, settings, progress)
    server = None
    if server_command:
        options = {"model": settings.model, "threads": settings.threads}
        server = await probe_server(chosen[0], server_command, options=options)
    return LatencyReport(model, machine_description(), modes, server)


async def measure_modes(
    backend: Backend,
    samples: Sequence[Keystrokes],
    settings: Settings,
    progress: Progress | None = None,
) -> dict[Mode, ModeFigures]:
    """Complete every sample cold and warm in every mode, one request at a time."""
    total, done = len(MEASURED_MODES) * len(samples), 0
    figures: dict[Mode, ModeFigures] = {}
    for mode in MEASURED_MODES:
        in_mode = replace(settings, mode=mode)
        await _timed(backend, requests_while_typing(samples[0], in_mode, f"warm-up {mode}")[0])
        cold, warm = [], []
        for number, sample in enumerate(samples):
            first, second = requests_while_typing(sample, in_mode, f"bench {mode} {number}")
            cold.append(await _timed(backend, first))
            warm.append(await _timed(backend, second))
            done += 1
            if progress:
                progress(done, total)
        figures[mode] = ModeFigures(summarise(cold), summarise(warm))
    return figures


async def _timed(backend: Backend, request: CompletionRequest) -> Timing:
    started = time.perf_counter()
    completion = await backend.complete(request)
    ms = 1000 * (time.perf_counter() - started)
    if completion.stats is None:
        raise ValueError("the backend returns no statistics, which this benchmark needs")
    return Timing(ms, completion.stats)


def summarise(timings: Sequence[Timing]) -> LatencyFigures:
    """Summarise one or more timings."""
    times = [timing.ms for timing in timings]
    percentiles = quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 19
    forwards = sum(timing.stats.forwards for timing in timings)
    tokens = sum(timing.stats.tokens for timing in timings)
    return LatencyFigures(
        n=len(timings),
        p50_ms=round(percentiles[9], 2),
        p95_ms=round(percentiles[18], 2),
        forwards=round(forwards / len(timings), 2),
        tokens=round(tokens / len(timings), 2),
        tokens_per_forward=round(tokens / forwards, 3) if forwards else 0.0,
        prefill_tokens=round(fmean(timing.stats.prefill_tokens for timing in timings), 1),
        reused_tokens=round(fmean(timing.stats.reused_tokens for timing in timings), 1),
    )


def _completion_table(report: LatencyReport) -> Table:
    machine = report.machine
    hardware = f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.system}"
    columns = {
        "p50_ms": "p50 ms",
        "p95_ms": "p95 ms",
        "forwards": "forwards",
        "tokens_per_forward": "tok/fwd",
        "prefill_tokens": "prefill",
        "reused_tokens": "reused",
    }
    table = Table(
        title=f"Single-line completions, model {report.model}",
        caption=f"{hardware}, Python {machine.python}, torch {machine.torch}",
        box=None,
        pad_edge=False,
    )
    for header in ("mode", "", *columns.values()):
        table.add_column(header, justify="left" if header in ("mode", "") else "right")
    for mode, figures in report.modes.items():
        for state, row in (("cold", figures.cold), ("warm", figures.warm)):
            table.add_row(mode, state, *(str(getattr(row, column)) for column in columns))
    return table


def _server_table(server: ServerFigures) -> Table:
    table = Table("fim-server lsp", "", title="The server process")
    table.add_row("initialize answered, ms", f"{server.initialize_ms}")
    table.add_row("  slowest start, ms", f"{server.initialize_slowest_ms}")
    table.add_row("model ready, ms", f"{server.ready_ms}")
    table.add_row("resident memory, MiB", f"{server.memory.rss_mib}")
    table.add_row("  at its highest, MiB", f"{server.memory.peak_rss_mib}")
    return table
