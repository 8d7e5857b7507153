"""The model in this process: one worker thread owns it, the event loop never waits for it.

Everything of `fim_model` is imported in the worker, so that importing this module costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fim_server.backends.base import (
    BackendError,
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    Progress,
)
from fim_server.log import where
from fim_server.mode_choice import measured_choice

if TYPE_CHECKING:
    from fim_model.infill import Infiller, InfillRequest, InfillResult

logger = logging.getLogger(__name__)


class InProcessBackend:
    """Implements Backend. `model` is a checkpoint folder (None: the one that ships with fim_model);
    `threads` is the number of CPU threads (None: torch decides)."""

    def __init__(self, model: str | None = None, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="fim-model")
        self._infiller: Infiller | None = None
        self._closed = threading.Event()
        self._running: dict[str, threading.Event] = {}

    async def start(self, progress: Progress) -> None:
        loop = asyncio.get_running_loop()

        def report(what: str, share: float) -> None:
            loop.call_soon_threadsafe(progress, what, share)

        try:
            self._infiller = await loop.run_in_executor(self._worker, self._load, report)
        except asyncio.CancelledError:
            self._closed.set()
            raise

    async def complete(self, request: CompletionRequest) -> Completion:
        if self._closed.is_set():
            raise BackendError("the backend is closed; make a new one")
        if self._infiller is None:
            raise BackendError("the model is not loaded; call start() and wait for it")
        stop = threading.Event()
        if request.session:
            if older := self._running.get(request.session):
                older.set()
            self._running[request.session] = stop
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._worker, self._infill, self._infiller, request, stop
            )
        finally:
            stop.set()
            if self._running.get(request.session) is stop:
                del self._running[request.session]

    async def close(self) -> None:
        self._closed.set()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._infiller = None

    # In the worker thread.

    def _load(self, report: Progress) -> Infiller | None:
        report("Starting torch", 0.0)
        try:
            from fim_model.checkpoint import CheckpointError
            from fim_model.infill import Infiller
        except ImportError as missing:
            raise BackendError(
                f"a local model needs the module {missing.name}: pip install 'fim-server[local]'"
            ) from missing
        if self._closed.is_set():
            return None
        report("Loading the model", 0.5)
        try:
            auto = measured_choice(self._model)
            return Infiller.load(self._model, threads=self._threads, auto=auto)
        except CheckpointError as problem:
            raise BackendError(str(problem)) from problem
        except Exception as mistake:
            raise BackendError(
                f"the model {self._model or '(default)'} could not be loaded ({where(mistake)}); "
                "choose another one with the setting 'model'"
            ) from mistake

    def _infill(
        self, infiller: Infiller, request: CompletionRequest, stop: threading.Event
    ) -> Completion:
        from fim_model.infill import Cancelled

        def should_stop() -> bool:
            return stop.is_set() or self._closed.is_set()

        if should_stop():
            return Completion()
        try:
            result = infiller.infill(infill_request(request), should_stop=should_stop)
        except Cancelled:
            return Completion()
        except Exception as mistake:
            raise BackendError(f"the model failed on a request ({where(mistake)})") from mistake
        return completion_of(result)


def infill_request(request: CompletionRequest) -> InfillRequest:
    """The request in the model's own terms. Imports the model; raises ValueError if it is unfit."""
    from fim_model.infill import InfillRequest

    values = {name: getattr(request, name) for name in InfillRequest.__slots__}
    values["snippets"] = [(one.path, one.text) for one in request.snippets]
    return InfillRequest(**values)


def completion_of(result: InfillResult) -> Completion:
    """The model's result in the terms of all backends."""
    return Completion(
        [CompletionItem(item.text, item.confidence) for item in result.items],
        CompletionStats(
            mode=result.mode,
            forwards=result.forwards,
            tokens=result.tokens,
            tokens_per_forward=result.tokens_per_forward,
            prefill_tokens=result.prefill_tokens,
            reused_tokens=result.reused_tokens,
            ms=result.ms,
        ),
    )
