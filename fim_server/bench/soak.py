"""`fim-server bench soak`: many sessions typing at one engine for minutes.

Checks for errors, memory growth after warm-up, and a long queue; latency is reported as well.

A session types in one document, closes it, and continues in another. Beyond the model, memory
should therefore hold one document's KV cache per session; the report lists caches separately.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from rich.console import Group
from rich.table import Table

from fim_server.bench.keystrokes import typing_tasks
from fim_server.bench.machine import Machine, machine_description
from fim_server.bench.recovery import Recovery, measure_recovery
from fim_server.bench.typing import TypingFigures, TypingTally, type_sessions
from fim_server.engine.client import EngineBackend
from fim_server.settings.settings import Settings

CHARACTERS = 200
"""Characters that a session types before it moves to another document."""

SAMPLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EngineSample:
    """The engine's metrics at one moment: resident memory and session caches in MiB, the number of
    cached documents, and the queue length."""

    memory_mib: float
    caches_mib: float
    documents: int
    queue: int

    @classmethod
    def of(cls, figures: Mapping[str, float]) -> EngineSample:
        return cls(
            round(figures.get("process_resident_memory_bytes", 0.0) / 2**20, 1),
            round(figures.get("fim_session_bytes", 0.0) / 2**20, 1),
            int(figures.get("fim_sessions", 0)),
            int(figures.get("fim_queue", 0)),
        )


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """The engine's peak memory in the first third of the run (warm-up) and in the last third.

    Peaks are compared because documents are opened and closed all the time. The `caches` figures
    are the session caches at those two moments; only pages that were ever written are part of the
    resident memory. `most_documents` is the largest number of cached documents. `course_mib` is the
    peak of each tenth of the run: a leak shows as a steady rise.
    """

    warm_mib: float
    end_mib: float
    growth_mib: float
    warm_caches_mib: float
    end_caches_mib: float
    most_documents: int
    course_mib: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[EngineSample]) -> MemoryFigures:
        """The figures of one or more samples."""
        third = max(1, len(samples) // 3)
        warm, end = (
            max(part, key=lambda sample: sample.memory_mib)
            for part in (samples[:third], samples[-third:])
        )
        return cls(
            warm.memory_mib,
            end.memory_mib,
            round(end.memory_mib - warm.memory_mib, 1),
            warm.caches_mib,
            end.caches_mib,
            max(sample.documents for sample in samples),
            tuple(max(sample.memory_mib for sample in part) for part in _tenths(samples)),
        )


def _tenths(samples: Sequence[EngineSample]) -> list[Sequence[EngineSample]]:
    """The samples split into ten parts of equal size, or fewer if there are fewer samples."""
    parts = min(10, len(samples))
    edges = [place * len(samples) // parts for place in range(parts + 1)]
    return [samples[start:end] for start, end in pairwise(edges)]


@dataclass(slots=True)
class EngineWatch:
    """Samples the engine's metrics every SAMPLE_SECONDS."""

    samples: list[EngineSample] = field(default_factory=list)

    async def run(self, backend: EngineBackend) -> None:
        while True:
            self.samples.append(EngineSample.of(await backend.metrics()))
            await asyncio.sleep(SAMPLE_SECONDS)


@dataclass(frozen=True, slots=True)
class SoakReport:
    """Load and memory of a soak run.

    `refused` counts requests rejected because the queue was full. `forwards_per_pass` is the mean
    number of sessions that shared a pass over the weights. `recovery` is None unless the engine was
    killed at the end.
    """

    sessions: int
    seconds: float
    keys_per_second: float
    machine: Machine
    typing: TypingFigures
    longest_queue: int
    refused: int
    memory: MemoryFigures
    forwards_per_pass: float
    recovery: Recovery | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_tables(self) -> Group:
        table = Table(
            "",
            "",
            title=f"{self.sessions} sessions for {self.seconds:.0f} s",
        )
        for name in ("longest_queue", "refused", "forwards_per_pass"):
            table.add_row(name, f"{getattr(self, name):g}")
        for name in MemoryFigures.__slots__:
            figure = getattr(self.memory, name)
            values = figure if isinstance(figure, tuple) else (figure,)
            table.add_row(f"memory {name}", " ".join(f"{value:g}" for value in values))
        if self.recovery is not None:
            for name in Recovery.__slots__:
                table.add_row(f"recovery {name}", f"{getattr(self.recovery, name):g}")
        for name in TypingFigures.__slots__:
            table.add_row(name, f"{getattr(self.typing, name):g}")
        return Group(table)


async def bench_soak(
    backend: EngineBackend,
    settings: Settings,
    *,
    sessions: int,
    seconds: float,
    keys_per_second: float,
    characters: int = CHARACTERS,
    kill: bool = False,
) -> SoakReport:
    """Let `sessions` type at a started engine for `seconds`, in rounds of `characters` each.

    The last round is typed to its end. With `kill` the engine is killed afterwards and the time
    until it serves again is measured.
    """
    before = await backend.metrics()
    watch = EngineWatch()
    watching = asyncio.create_task(watch.run(backend))
    tally, began, rounds = TypingTally(), time.monotonic(), 0
    try:
        while not rounds or time.monotonic() - began < seconds:
            tasks = typing_tasks(sessions, characters, seed=rounds)
            part = await type_sessions(
                backend, settings, tasks, keys_per_second, rounds, name=f"soak-{rounds}"
            )
            tally.add(part)
            rounds += 1
    finally:
        watching.cancel()
    figures = await backend.metrics()
    watch.samples.append(EngineSample.of(figures))
    return SoakReport(
        sessions=sessions,
        seconds=round(time.monotonic() - began, 1),
        keys_per_second=keys_per_second,
        machine=machine_description(),
        typing=TypingFigures.of(tally),
        longest_queue=max(sample.queue for sample in watch.samples),
        refused=int(figures.get("fim_scheduler_refused", 0)),
        memory=MemoryFigures.of(watch.samples),
        forwards_per_pass=_forwards_per_pass(before, figures),
        recovery=await measure_recovery(backend, settings) if kill else None,
    )


def _forwards_per_pass(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Mean forwards per pass over the weights between two readings of the metrics."""
    forwards, passes = (
        after.get(name, 0.0) - before.get(name, 0.0)
        for name in ("fim_joint_forwards", "fim_joint_passes")
    )
    return round(forwards / passes, 2) if passes else 0.0
