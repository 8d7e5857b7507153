"""`fim-server bench typing --large`: typing in files of 50,000 and 480,000 lines and in a line of
1 MiB.

Each document is typed twice: with the model, and with a backend that immediately returns nothing.
The second run measures the front-end's own work per keystroke: document, edit history, window,
rules, cache.
"""

from __future__ import annotations

import random
from itertools import cycle, islice

from fim_model.requests import Completion, CompletionRequest, RewriteRequest

from fim_server.backends.base import Backend, Progress
from fim_server.bench.keystrokes import TypingTask
from fim_server.bench.machine import machine_description
from fim_server.bench.samples import FILES, source_text
from fim_server.bench.typing import TypingFigures, TypingReport, type_sessions
from fim_server.settings.settings import Settings

LINES = 50_000
HUGE_LINES = 480_000
LINE_BYTES = 2**20


class EmptyBackend:
    """Implements Backend: returns an empty completion immediately."""

    async def start(self, progress: Progress) -> None: ...

    async def complete(self, request: CompletionRequest) -> Completion:
        return Completion()

    async def rewrite(self, request: RewriteRequest) -> None: ...

    async def forget(self, session: str) -> None: ...

    async def close(self) -> None: ...


def large_tasks(
    characters: int, seed: int, lines: int = LINES, line_bytes: int = LINE_BYTES
) -> dict[str, TypingTask]:
    """Tasks by name: type `characters` of real code in the middle of repeated real code.

    The long line contains a non-ASCII character, the worst case for UTF-16 positions.
    """
    code = [line for path in FILES for line in source_text(path).splitlines(keepends=True)]
    start = random.Random(seed).randrange(len(code))
    many = list(islice(cycle(code), start, start + lines))
    first = end = lines // 2
    while end < lines and sum(map(len, many[first:end])) < characters:
        end += 1
    typed = "".join(many[first:end])[:characters]
    flat = "é" + "".join(code).replace("\n", " ")
    half = (flat * (line_bytes // len(flat) + 1))[: line_bytes // 2]
    return {
        f"{lines} lines": TypingTask(
            "large.py", "".join(many[:first]), typed, "\n" + "".join(many[end:])
        ),
        f"a line of {line_bytes // 1024} KiB": TypingTask(
            "line.py", half, typed.replace("\n", " "), half
        ),
    }


async def bench_large(
    backend: Backend,
    settings: Settings,
    *,
    model: str,
    tasks: dict[str, TypingTask],
    keys_per_second: float,
    seed: int = 0,
) -> TypingReport:
    """Type each task with the model (started already), and without."""
    figures = {}
    for name, task in tasks.items():
        for label, one in ((name, backend), (f"{name}, no model", EmptyBackend())):
            tally = await type_sessions(one, settings, [task], keys_per_second, seed, name=label)
            figures[label] = TypingFigures.of(tally)
    return TypingReport(model, keys_per_second, len(tasks), machine_description(), figures)
