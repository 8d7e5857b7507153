"""The model in this process: worker threads use it, the event loop never waits for it.

Everything of `fim_model` is imported in the worker, so that importing this module costs nothing.
The engine serves exactly this backend to other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from fim_model.requests import (
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    Rewrite,
    RewriteRequest,
    TraceStep,
)

from fim_server.backends.base import BackendError, Progress, Unfit, Unsupported
from fim_server.backends.mode_choice import measured_choice
from fim_server.backends.scheduler import Scheduler, ShouldStop
from fim_server.log import where

if TYPE_CHECKING:
    from fim_model import requests
    from fim_model.decoding.core import Step
    from fim_model.infiller import Infiller
    from fim_model.network.batching import JointModel
    from fim_model.requests import Completion, CompletionRequest, Rewrite

logger = logging.getLogger(__name__)

TextListener = Callable[[str], None]
"""Hears the hole's text so far, whenever it grew; of the first alternative only."""


class InProcessBackend:
    """Implements Backend. `model` is a checkpoint folder (None: the one that ships with fim_model);
    `threads` is the number of CPU threads (None: torch decides), `cache_bytes` the memory for kept
    keys and values (None: the model's own choice), `at_once` how many requests are worked on side
    by side, sharing their forwards."""

    def __init__(
        self,
        model: str | None = None,
        threads: int | None = None,
        cache_bytes: int | None = None,
        at_once: int = 1,
    ) -> None:
        self.scheduler = Scheduler(at_once=at_once)
        self._cache_bytes = cache_bytes
        self._model = model
        self._threads = threads
        self._infiller: Infiller | None = None
        self._model_shared: JointModel | None = None
        self._thread = threading.local()
        self._closed = threading.Event()

    async def start(self, progress: Progress) -> None:
        loop = asyncio.get_running_loop()

        def report(what: str, share: float) -> None:
            loop.call_soon_threadsafe(progress, what, share)

        try:
            self._infiller = await loop.run_in_executor(self.scheduler.worker, self._load, report)
        except asyncio.CancelledError:
            self._closed.set()
            raise

    async def complete(self, request: CompletionRequest) -> Completion:
        return await self.stream(request, None)

    def sessions(self) -> tuple[int, int, int]:
        """Kept sessions, the bytes they take, and how many made room for others so far."""
        if self._infiller is None:
            return 0, 0, 0
        store = self._infiller.sessions
        return len(store), store.bytes, store.evicted

    def passes(self) -> tuple[int, int]:
        """Forwards that requests asked for, and passes over the weights that were made for them."""
        if self._model_shared is None:
            return 0, 0
        counts = self._model_shared.counts
        return counts.forwards, counts.passes

    async def stream(
        self,
        request: CompletionRequest,
        on_text: TextListener | None,
        *,
        latest_wins: bool = True,
    ) -> Completion:
        """`complete`, telling `on_text` (in the event loop) of what stands so far.

        `latest_wins` False does not end older requests of the session.
        """
        infiller = self._loaded()
        listener = None if on_text is None else _in_loop(on_text)

        def work(should_stop: ShouldStop) -> Completion:
            with self._at_the_model(infiller, request.session):
                return self._infill(infiller, request, should_stop, listener)

        return await self.scheduler.run(request, work, Completion(), latest_wins=latest_wins)

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        infiller = self._loaded()

        def work(should_stop: ShouldStop) -> Rewrite | None:
            from fim_model.decoding.rewrite_region import rewriting_session

            with self._at_the_model(infiller, rewriting_session(request.session)):
                return self._rewrite(infiller, request, should_stop)

        return await self.scheduler.run(request, work, None)

    async def forget(self, session: str) -> None:
        if self._infiller is not None:
            self._infiller.forget(session)

    def forget_unused(self, seconds: float) -> None:
        """Free what is kept for sessions that nobody asked anything of for so long."""
        if self._infiller is not None:
            self._infiller.sessions.forget_unused(seconds)

    def check(self, request: CompletionRequest) -> None:
        """Raises ValueError, naming the field, for a request the model cannot be asked."""
        infill_request(request)

    def _loaded(self) -> Infiller:
        if self._closed.is_set():
            raise BackendError("the backend is closed; make a new one")
        if self._infiller is None:
            raise BackendError("the model is not loaded; call start() and wait for it")
        return self._infiller

    async def close(self) -> None:
        self._closed.set()
        self.scheduler.close()
        self._infiller = None

    # In the worker threads.

    @contextlib.contextmanager
    def _at_the_model(self, infiller: Infiller, session: str) -> Iterator[None]:
        """While inside, this thread shares the forwards of the others inside, and keeps its cache.

        torch counts its threads for each thread that calls it.
        """
        if self._threads and not hasattr(self._thread, "ready"):
            import torch

            torch.set_num_threads(self._threads)
            self._thread.ready = True
        with contextlib.ExitStack() as inside:
            inside.enter_context(infiller.sessions.held(session))
            if self._model_shared is not None:
                inside.enter_context(self._model_shared.filling())
            yield

    def _load(self, report: Progress) -> Infiller | None:
        report("Starting torch", 0.0)
        # Read when torch is first imported. By default, OpenMP threads that wait for each other
        # spin: beside a running build one forward then takes seconds instead of milliseconds.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            from fim_model.errors import CheckpointError
            from fim_model.infiller import Infiller
            from fim_model.network.batching import JointModel
        except ImportError as missing:
            raise BackendError(
                f"a local model needs the module {missing.name}: pip install 'fim-server[local]'"
            ) from missing
        if self._closed.is_set():
            return None
        try:
            auto = measured_choice(self._model)
            infiller = Infiller.load(self._model, threads=self._threads, auto=auto, progress=report)
        except CheckpointError as problem:
            raise BackendError(str(problem)) from problem
        except Exception as mistake:
            raise BackendError(
                f"the model {self._model or '(default)'} could not be loaded ({where(mistake)}); "
                "choose another one with the setting 'model'"
            ) from mistake
        if self._cache_bytes is not None:
            infiller.sessions.budget_bytes = self._cache_bytes
        infiller.model = self._model_shared = JointModel(infiller.model)
        infiller.rewriter.model = infiller.model
        return infiller

    def _infill(
        self,
        infiller: Infiller,
        request: CompletionRequest,
        should_stop: ShouldStop,
        on_text: TextListener | None,
    ) -> Completion:
        from fim_model.errors import Cancelled

        def stopped() -> bool:
            return should_stop() or self._closed.is_set()

        if stopped():
            return Completion()
        trace: list[TraceStep] = []
        tell = _ignored if on_text is None else _told(infiller, on_text)

        def on_step(step: Step) -> None:
            tell(step)
            if request.trace:
                trace.append(_traced(infiller, step))

        try:
            result = infiller.infill(
                infill_request(request),
                should_stop=stopped,
                on_step=on_step,
            )
        except Cancelled:
            return Completion()
        except Exception as mistake:
            raise BackendError(f"the model failed on a request ({where(mistake)})") from mistake
        return replace(completion_of(result), trace=trace)

    def _rewrite(
        self, infiller: Infiller, request: RewriteRequest, should_stop: ShouldStop
    ) -> Rewrite | None:
        from fim_model.errors import Cancelled

        def stopped() -> bool:
            return should_stop() or self._closed.is_set()

        if stopped():
            return None
        if infiller.rewriter.way is None:
            raise Unsupported("this model was not trained on edits and denoises no blocks")
        try:
            return rewrite_of(infiller.rewrite(rewrite_request(request), should_stop=stopped))
        except Cancelled:
            return None
        except ValueError as unfit:
            raise Unfit(str(unfit)) from unfit
        except Exception as mistake:
            raise BackendError(f"the model failed on a rewrite ({where(mistake)})") from mistake


def infill_request(request: CompletionRequest) -> CompletionRequest:
    """The request in the model's own terms. Imports the model; raises ValueError if it is unfit."""
    from fim_model.requests import CompletionRequest

    values = {name: getattr(request, name) for name in CompletionRequest.__slots__}
    values["snippets"] = [(one.path, one.text) for one in request.snippets]
    return CompletionRequest(**values)


def completion_of(result: Completion) -> Completion:
    """The model's result in the terms of all backends."""
    return Completion(
        [CompletionItem(item.text, item.confidence, item.finish) for item in result.items],
        CompletionStats(
            mode=result.mode,
            forwards=result.forwards,
            tokens=result.tokens,
            tokens_per_forward=result.tokens_per_forward,
            prefill_tokens=result.prefill_tokens,
            reused_tokens=result.reused_tokens,
            ms=result.ms,
        ),
        result.show_above,
    )


def rewrite_request(request: RewriteRequest) -> requests.RewriteRequest:
    """The request in the model's own terms. Imports the model; raises ValueError if it is unfit."""
    from fim_model import requests

    return requests.RewriteRequest(
        prefix=request.prefix,
        old=request.old,
        suffix=request.suffix,
        edits=tuple(requests.Edit(one.old, one.new) for one in request.edits),
        path=request.path,
        max_tokens=request.max_tokens,
        session=request.session,
        drafts=request.drafts,
    )


def rewrite_of(result: Rewrite) -> Rewrite:
    """The model's result in the terms of all backends."""
    return Rewrite(**{field.name: getattr(result, field.name) for field in fields(Rewrite)})


def _in_loop(on_text: TextListener) -> TextListener:
    loop = asyncio.get_running_loop()

    def tell(text: str) -> None:
        loop.call_soon_threadsafe(on_text, text)

    return tell


def _told(infiller: Infiller, on_text: TextListener) -> Callable[[Step], None]:
    """Turns steps into text. A draft's tokens may still change, so they are not told."""
    from fim_model.decoding.core import ForwardKind

    prefills = 0

    def on_step(step: Step) -> None:
        nonlocal prefills
        prefills += step.kind is ForwardKind.PREFILL
        if prefills == 1 and step.kind is not ForwardKind.DRAFT:
            on_text(infiller.tokenizer.decode(step.hole)[step.typed :])

    return on_step


def _ignored(step: Step) -> None: ...


def _traced(infiller: Infiller, step: Step) -> TraceStep:
    return TraceStep(
        kind=step.kind.value,
        width=step.width,
        hole=infiller.pieces(step.hole, step.typed),
        committed=list(step.committed),
        confidences=list(step.confidences),
        remasked=list(step.remasked),
    )
