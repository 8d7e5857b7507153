"""`fim-server bench soak`: many people typing at one engine for minutes.

What is asked: no error, no memory that keeps growing once everything is warm, a queue that stays
short. Latency under this load is reported, not judged.

A session types in one document, closes it, and goes on in another one. So the kept keys of as many
documents as there are sessions is all that memory should hold beyond the model; the report tells
them apart from the rest.
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
"""Typed by a session before it goes on at another place."""

SAMPLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EngineSample:
    """The engine at one moment, from its own metrics: resident memory and kept keys in MiB, the
    documents they are of, and the requests that wait."""

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
    """The engine's memory at its largest in the first third, when it gets warm, and in the last.

    `caches` are the kept keys at those two moments (part of the memory, as far as they were ever
    written), `most_documents` the largest number they were of. Largest, because documents are
    closed and opened all the time: what counts is how high the peaks get. `course_mib` has the
    largest of each tenth of the time: what grows without end keeps growing there.
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
        """At least one sample."""
        third = max(1, len(samples) // 3)
        warm, end = (
            max(part, key=lambda one: one.memory_mib)
            for part in (samples[:third], samples[-third:])
        )
        return cls(
            warm.memory_mib,
            end.memory_mib,
            round(end.memory_mib - warm.memory_mib, 1),
            warm.caches_mib,
            end.caches_mib,
            max(one.documents for one in samples),
            tuple(max(one.memory_mib for one in part) for part in _tenths(samples)),
        )


def _tenths(samples: Sequence[EngineSample]) -> list[Sequence[EngineSample]]:
    """The samples in ten parts of one size, or as many as there are samples."""
    parts = min(10, len(samples))
    edges = [place * len(samples) // parts for place in range(parts + 1)]
    return [samples[start:end] for start, end in pairwise(edges)]


@dataclass(slots=True)
class EngineWatch:
    """What the engine was like, second by second."""

    samples: list[EngineSample] = field(default_factory=list)

    async def run(self, backend: EngineBackend) -> None:
        while True:
            self.samples.append(EngineSample.of(await backend.metrics()))
            await asyncio.sleep(SAMPLE_SECONDS)


@dataclass(frozen=True, slots=True)
class SoakReport:
    """`refused` counts requests that the full queue turned away. `forwards_per_pass` tells how many
    sessions shared a pass over the weights, on average. `recovery` is of an engine that was killed
    afterwards, if it was."""

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
            several = figure if isinstance(figure, tuple) else (figure,)
            table.add_row(f"memory {name}", " ".join(f"{one:g}" for one in several))
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
    """Let `sessions` type at a started engine until `seconds` are over, in rounds of `characters`
    each; a round that has begun is typed to its end. With `kill` the engine is killed then, and the
    time until it serves again is taken."""
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
        longest_queue=max(one.queue for one in watch.samples),
        refused=int(figures.get("fim_scheduler_refused", 0)),
        memory=MemoryFigures.of(watch.samples),
        forwards_per_pass=_share(before, figures),
        recovery=await measure_recovery(backend, settings) if kill else None,
    )


def _share(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Forwards for each pass between two looks at the metrics."""
    forwards, passes = (
        after.get(name, 0.0) - before.get(name, 0.0)
        for name in ("fim_joint_forwards", "fim_joint_passes")
    )
    return round(forwards / passes, 2) if passes else 0.0
