"""Measure the recovery from a killed engine: the failed request and the time to the next answer.

Requests go through the front-end, as from an editor. This kills the user's running engine; other
editors that share it get a new one as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, replace

from lsprotocol import types as lsp

from fim_server.backends.base import BackendError
from fim_server.bench.typing import FAILURES, StartedBackend
from fim_server.completion.answer import Answer
from fim_server.completion.completer import Completer
from fim_server.documents.documents import DocumentStore
from fim_server.engine.client import EngineBackend
from fim_server.settings.settings import Settings

_URI = "file:///recovery.py"
_TEXT = "def area(width, height):\n    return \n\n\nprint(area(2, 3))\n"
_LINE, _COLUMN = 2, 11
_KEY_SECONDS = 0.125
_TRIES = 20
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """lost_ms: from the kill to the empty answer of the running request. again_ms: from the next
    keystroke to the first answer of the new engine. unanswered: failed keystrokes in between."""

    lost_ms: float
    again_ms: float
    unanswered: int


async def measure_recovery(backend: EngineBackend, settings: Settings) -> Recovery:
    """Kill a started engine during a request, and keep typing until completions return.

    Raises BackendError if they do not, or if every request ended before the kill.
    """
    long = replace(settings, max_tokens=256, max_lines=100, multiline="always", alternatives=10)
    documents = DocumentStore()
    completer = Completer(documents, StartedBackend(backend, reuse=True), long)
    await completer.start(lambda what, share: None)
    for number in range(_TRIES):
        documents.open(_URI, "python", 1, f"tries = {number}\n{_TEXT}")
        asking = asyncio.create_task(_ask(completer, lsp.InlineCompletionTriggerKind.Invoked, 0))
        if await _running(backend, asking):
            os.kill(await backend.process(), signal.SIGKILL)
            killed = time.perf_counter()
            if (await asking).silence in FAILURES:
                lost_ms = 1000 * (time.perf_counter() - killed)
                again_ms, unanswered = await _until_service(documents, completer)
                return Recovery(round(lost_ms, 1), round(again_ms, 1), unanswered)
        await asking
    raise BackendError("every request was answered before the engine could be killed")


async def _running(backend: EngineBackend, asking: asyncio.Task[Answer]) -> bool:
    """Wait until the engine reports a running request; False if the request ends first."""
    while not asking.done():
        if (await backend.metrics()).get("fim_running"):
            return True
    return False


async def _until_service(documents: DocumentStore, completer: Completer) -> tuple[float, int]:
    """Type until a request succeeds; the milliseconds and the number of failed keystrokes."""
    began = time.perf_counter()
    for typed in range(int(_PATIENCE_SECONDS / _KEY_SECONDS)):
        spot = lsp.Position(_LINE, _COLUMN + typed)
        change = lsp.TextDocumentContentChangePartial(range=lsp.Range(spot, spot), text="x")
        documents.change(_URI, 2 + typed, [change])
        answer = await _ask(completer, lsp.InlineCompletionTriggerKind.Automatic, typed + 1)
        if answer.silence not in FAILURES:
            return 1000 * (time.perf_counter() - began), typed
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            break
        await asyncio.sleep(_KEY_SECONDS)
    raise BackendError(f"no completion {_PATIENCE_SECONDS:.0f} s after the engine was killed")


async def _ask(
    completer: Completer, trigger: lsp.InlineCompletionTriggerKind, typed: int
) -> Answer:
    return await completer.complete(_URI, lsp.Position(_LINE, _COLUMN + typed), trigger)
