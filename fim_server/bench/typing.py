"""`fim-server bench typing`: measure the latency from keystroke to answer while code is typed.

A few lines of a real file are retyped, with corrections and cursor jumps, through the real
front-end (document, cache, debounce, trimming) and a backend. As in an editor, every keystroke
requests a completion, and keys are pressed on schedule whether an answer has arrived or not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import quantiles
from typing import Any

from fim_model.requests import Completion, CompletionRequest, Rewrite, RewriteRequest
from lsprotocol import types as lsp
from rich.console import Group
from rich.table import Table

from fim_server.backends.base import Backend, Progress
from fim_server.bench.keystrokes import Jump, Key, TypingTask, keys_of
from fim_server.bench.machine import Machine, machine_description
from fim_server.completion.answer import Answer
from fim_server.completion.completer import Completer
from fim_server.completion.silence import Silence
from fim_server.documents.documents import DocumentStore, Encoding
from fim_server.edits.history import History
from fim_server.settings.settings import Settings

AUTOMATIC = lsp.InlineCompletionTriggerKind.Automatic

OUTDATED = (Silence.STALE, Silence.SUPERSEDED, Silence.CANCELLED)
FAILURES = (Silence.BACKEND_ERROR, Silence.INTERNAL_ERROR, Silence.NO_MODEL, Silence.LOADING)


@dataclass(slots=True)
class TypingTally:
    """Counts and times of the keystrokes of one or more sessions.

    `superseded` keystrokes were followed by another one before their answer arrived.
    """

    answered_ms: list[float] = field(default_factory=list)
    model_ms: list[float] = field(default_factory=list)
    keystrokes: int = 0
    cached: int = 0
    superseded: int = 0
    failed: int = 0
    shown: int = 0
    prefill_tokens: int = 0
    reused_tokens: int = 0

    def count(self, answer: Answer, ms: float) -> None:
        self.keystrokes += 1
        if answer.silence in OUTDATED:
            self.superseded += 1
            return
        if answer.silence in FAILURES:
            self.failed += 1
            return
        self.answered_ms.append(ms)
        self.shown += bool(answer.items)
        self.cached += answer.cached
        if answer.stats is not None:
            self.model_ms.append(ms)
            self.prefill_tokens += answer.stats.prefill_tokens
            self.reused_tokens += answer.stats.reused_tokens

    def add(self, other: TypingTally) -> None:
        """Add the counts and times of `other`."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class TypingFigures:
    """Times cover answered keystrokes; shares are of all keystrokes.

    Token counts cover answered requests only: superseded and speculative requests report none.
    """

    keystrokes: int
    p50_ms: float
    p95_ms: float
    model_p50_ms: float
    model_p95_ms: float
    cache_share: float
    superseded_share: float
    shown_share: float
    failed: int
    prefill_tokens: int
    reused_tokens: int

    @classmethod
    def of(cls, tally: TypingTally) -> TypingFigures:
        total = max(tally.keystrokes, 1)
        return cls(
            tally.keystrokes,
            *_p50_p95(tally.answered_ms),
            *_p50_p95(tally.model_ms),
            round(tally.cached / total, 3),
            round(tally.superseded / total, 3),
            round(tally.shown / total, 3),
            tally.failed,
            tally.prefill_tokens,
            tally.reused_tokens,
        )


@dataclass(frozen=True, slots=True)
class TypingReport:
    """`variants`: figures by name, all of the same keystrokes."""

    model: str
    keys_per_second: float
    sessions: int
    machine: Machine
    variants: dict[str, TypingFigures]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_tables(self) -> Group:
        table = Table(title=f"Typing, model {self.model}, {self.keys_per_second:g} keys a second")
        table.add_column("")
        for name in self.variants:
            table.add_column(name, justify="right")
        for row in TypingFigures.__slots__:
            figures = self.variants.values()
            table.add_row(row, *(f"{getattr(variant, row):g}" for variant in figures))
        return Group(table)


class StartedBackend:
    """Implements Backend over a backend that is already started and outlives this one.

    Without `reuse`, every request is sent as the first of its document.
    """

    def __init__(self, backend: Backend, *, reuse: bool) -> None:
        self._backend, self._reuse = backend, reuse

    async def start(self, progress: Progress) -> None: ...

    async def complete(self, request: CompletionRequest) -> Completion:
        return await self._backend.complete(
            request if self._reuse else replace(request, session="")
        )

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        return await self._backend.rewrite(request)

    async def forget(self, session: str) -> None:
        await self._backend.forget(session)

    async def close(self) -> None: ...


class TypingSession:
    """Types into one document, through its own front-end.

    With `forgetful`, the type-through cache is emptied before every request.
    """

    def __init__(
        self, backend: Backend, settings: Settings, task: TypingTask, name: str, *, forgetful: bool
    ) -> None:
        self._documents = DocumentStore(Encoding.UTF16)
        self._completer = Completer(self._documents, backend, settings)
        self._history = History()
        self._task, self._forgetful = task, forgetful
        self._uri = f"file:///{name}/{task.path}"
        self._typed, self._version = "", 1
        # Computed once: counting lines in a large file would add to every keystroke.
        self._start = _end_of(task.before)
        self.tally = TypingTally()

    async def run(self, keys_per_second: float, seed: int) -> None:
        """Type the whole task, then close the document.

        With `keys_per_second` 0, every key waits for the previous answer.
        """
        await self._completer.start(lambda what, share: None)
        task = self._task
        self._documents.open(self._uri, "python", self._version, task.before + task.after)
        asked: set[asyncio.Task[None]] = set()
        for key in keys_of(task, seed):
            pressed = time.perf_counter()
            asking = asyncio.create_task(self._press(key))
            asked.add(asking)
            asking.add_done_callback(asked.discard)
            if keys_per_second:
                pause = 1 / keys_per_second - (time.perf_counter() - pressed)
                await asyncio.sleep(max(0.0, pause))
            else:
                await asking
        if asked:
            await asyncio.wait(asked)
        self._documents.close(self._uri)
        await self._completer.closed(self._uri)

    async def _press(self, key: Key | Jump) -> None:
        began = time.perf_counter()
        position = lsp.Position(key.line, 10_000) if isinstance(key, Jump) else self._change(key)
        if self._forgetful:
            self._completer.forget(self._uri)
        answer = await self._completer.complete(self._uri, position, AUTOMATIC)
        self.tally.count(answer, 1000 * (time.perf_counter() - began))

    def _change(self, key: Key) -> lsp.Position:
        """Apply the key to the document, as an editor's notification does; the new cursor."""
        cursor = self._cursor()
        if key.back:
            self._typed = self._typed[:-1]
            span = lsp.Range(self._cursor(), cursor)
        else:
            self._typed += key.text
            span = lsp.Range(cursor, cursor)
        self._version += 1
        change = lsp.TextDocumentContentChangePartial(range=span, text=key.text)
        before = self._documents.snapshot(self._uri)
        self._documents.change(self._uri, self._version, [change])
        self._completer.document_changed(self._uri)
        after = self._documents.snapshot(self._uri)
        if before is not None and after is not None:
            self._history.record(before, after, time.monotonic())
        return self._cursor()

    def _cursor(self) -> lsp.Position:
        end = _end_of(self._typed)
        column = end.character + (0 if end.line else self._start.character)
        return lsp.Position(self._start.line + end.line, column)


def _end_of(text: str) -> lsp.Position:
    last = text.rpartition("\n")[2]
    return lsp.Position(text.count("\n"), len(last.encode("utf-16-le")) // 2)


async def type_sessions(
    backend: Backend,
    settings: Settings,
    tasks: Sequence[TypingTask],
    keys_per_second: float,
    seed: int,
    *,
    name: str,
    reuse: bool = True,
) -> TypingTally:
    """Type all tasks concurrently, each with its own document and front-end; the joint tally."""
    sessions = [
        TypingSession(
            StartedBackend(backend, reuse=reuse),
            settings,
            task,
            f"{name}-{number}",
            forgetful=not reuse,
        )
        for number, task in enumerate(tasks)
    ]
    runs = (session.run(keys_per_second, seed + n) for n, session in enumerate(sessions))
    await asyncio.gather(*runs)
    total = TypingTally()
    for session in sessions:
        total.add(session.tally)
    return total


async def bench_typing(
    backend: Backend,
    settings: Settings,
    tasks: Sequence[TypingTask],
    *,
    model: str,
    keys_per_second: float,
    seed: int = 0,
    other: Backend | None = None,
) -> TypingReport:
    """Type the same keys with all reuse, without any reuse, and on the server `other` if given.

    The backends must be started. Documents are typed one after the other.
    """
    plain = replace(settings, speculate=False)

    async def measure(backend: Backend, settings: Settings, name: str, reuse: bool) -> TypingTally:
        await backend.complete(CompletionRequest("x = ", "\n", mode=settings.mode, max_tokens=4))
        total = TypingTally()
        for number, task in enumerate(tasks):
            part = await type_sessions(
                backend,
                settings,
                [task],
                keys_per_second,
                seed + number,
                name=f"{name}-{number}",
                reuse=reuse,
            )
            total.add(part)
        return total

    tallies = {
        "fim-server": await measure(backend, settings, "reuse", True),
        "no reuse": await measure(backend, plain, "no-reuse", False),
    }
    if other is not None:
        tallies["other server"] = await measure(other, plain, "other", False)
    figures = {name: TypingFigures.of(tally) for name, tally in tallies.items()}
    return TypingReport(model, keys_per_second, len(tasks), machine_description(), figures)


def _p50_p95(times: Sequence[float]) -> tuple[float, float]:
    if not times:
        return 0.0, 0.0
    points = quantiles(times, n=20, method="inclusive") if len(times) > 1 else [times[0]] * 19
    return round(points[9], 2), round(points[18], 2)
