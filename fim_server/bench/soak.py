"""`fim-server bench soak`: many people typing at one engine for minutes.

What is asked: no error, no memory that keeps growing once everything is warm, a queue that stays
short. Latency under this load is reported, not judged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table

from fim_server.backends.engine import EngineBackend
from fim_server.bench.keys import typing_tasks
from fim_server.bench.machine import Machine, machine_description
from fim_server.bench.recovery import Recovery, measure_recovery
from fim_server.bench.typing import TypingFigures, TypingTally, type_sessions
from fim_server.settings import Settings

CHARACTERS = 200
"""Typed by a session before it goes on at another place."""

SAMPLE_SECONDS = 1.0


@dataclass(slots=True)
class EngineWatch:
    """The engine's memory (MiB) and queue over time, from its own metrics."""

    memory_mib: list[float] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)

    async def run(self, backend: EngineBackend) -> None:
        while True:
            figures = await backend.metrics()
            self.memory_mib.append(figures.get("process_resident_memory_bytes", 0.0) / 2**20)
            self.queue.append(int(figures.get("fim_queue", 0)))
            await asyncio.sleep(SAMPLE_SECONDS)

    def growth_mib(self) -> float:
        """From the end of the first third, when everything is warm, to the end."""
        if not self.memory_mib:
            return 0.0
        return round(self.memory_mib[-1] - self.memory_mib[len(self.memory_mib) // 3], 1)


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
    memory_mib: float
    memory_growth_mib: float
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
        own = (
            "longest_queue",
            "refused",
            "memory_mib",
            "memory_growth_mib",
            "forwards_per_pass",
        )
        for name in own:
            table.add_row(name, f"{getattr(self, name):g}")
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
    return SoakReport(
        sessions=sessions,
        seconds=round(time.monotonic() - began, 1),
        keys_per_second=keys_per_second,
        machine=machine_description(),
        typing=TypingFigures.of(tally),
        longest_queue=max(watch.queue, default=0),
        refused=int(figures.get("fim_scheduler_refused", 0)),
        memory_mib=round(figures.get("process_resident_memory_bytes", 0.0) / 2**20, 1),
        memory_growth_mib=watch.growth_mib(),
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
