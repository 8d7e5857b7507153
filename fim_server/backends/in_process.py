"""The model in this process: worker threads run it, the event loop never waits for it.

What needs torch is imported in the workers, so that importing this module is cheap. The engine
serves this backend to other processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fim_model.requests import (
    AUTO,
    ChatRequest,
    Completion,
    CompletionRequest,
    InstructionRequest,
    Rewrite,
    RewriteRequest,
    TraceStep,
)

from fim_server.backends.base import (
    BackendError,
    Progress,
    TextListener,
    Unfit,
    Unsupported,
)
from fim_server.backends.mode_choice import measured_choice, score_files
from fim_server.backends.scheduler import Scheduler, ShouldStop
from fim_server.log import where

if TYPE_CHECKING:
    from fim_model.calibration.instruction_score import InstructionScore
    from fim_model.decoding.core import Step
    from fim_model.infiller import Infiller

logger = logging.getLogger(__name__)

TraceListener = Callable[[TraceStep], None]
"""Receives what each forward did."""

T = TypeVar("T")

_FOLLOWING = (
    "set model to a larger one that was trained on instructions, such as "
    "Qwen/Qwen2.5-Coder-1.5B-Instruct or mistralai/Ministral-3-3B-Instruct-2512, or to the GGUF "
    "file of one"
)

PREEMPTED_SECONDS = 0.5
"""Pause before a test edit that a completion stopped is asked again."""


class InProcessBackend:
    """Implements Backend.

    model: a checkpoint folder, None for the model that ships. threads: CPU threads, None for
    torch's default. cache_bytes: memory for cached keys and values, None for the default budget.
    at_once: requests that run side by side and share their forwards. adapters: the folder of what
    was learned from workspaces, None to use the model alone.
    """

    def __init__(
        self,
        model: str | None = None,
        threads: int | None = None,
        cache_bytes: int | None = None,
        at_once: int = 1,
        adapters: Path | None = None,
    ) -> None:
        self.scheduler = Scheduler(at_once=at_once)
        self._cache_bytes = cache_bytes
        self._model, self._adapters = model, adapters
        self._threads = threads
        self._infiller: Infiller | None = None
        self._thread = threading.local()
        self._closed = threading.Event()
        self._score: InstructionScore | None = None
        self._scoring: asyncio.Task[InstructionScore] | None = None

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
        """Cached sessions, their bytes, and how many were evicted so far."""
        if self._infiller is None:
            return 0, 0, 0
        store = self._infiller.sessions
        return len(store), store.bytes, store.evicted

    def passes(self) -> tuple[int, int]:
        """Forwards of all requests, and the passes over the weights that they took together."""
        if self._infiller is None or self._infiller.batched is None:
            return 0, 0
        counts = self._infiller.batched.counts
        return counts.forwards, counts.passes

    async def stream(
        self,
        request: CompletionRequest | ChatRequest,
        on_text: TextListener | None,
        *,
        on_trace: TraceListener | None = None,
        latest_wins: bool = True,
    ) -> Completion:
        """`complete`, or an answer, calling `on_text` in the event loop with the text so far, and
        `on_trace` with each forward.

        `latest_wins` False does not cancel older requests of the session.
        """
        infiller = self._loaded()
        if request.mode not in (AUTO, *infiller.modes):
            raise Unfit(
                f"this model has no mode {request.mode!r}, only {', '.join(infiller.modes)}; "
                "change the setting mode"
            )
        listeners: list[Callable[[Step], None]] = []
        if on_text is not None:
            listeners.append(_text_of_steps(infiller, _in_loop(on_text)))
        if on_trace is not None:
            tell = _in_loop(on_trace)
            listeners.append(lambda step: tell(infiller.traced(step)))

        def on_step(step: Step) -> None:
            for listener in listeners:
                listener(step)

        def work(should_stop: ShouldStop) -> Completion:
            return self._infill(infiller, request, should_stop, on_step)

        return await self.scheduler.run(request, work, Completion(), latest_wins=latest_wins)

    def prompt(self, request: CompletionRequest) -> tuple[list[int], str]:
        """The token ids that the model reads, and the text before the cursor that it spells again.

        The second is "" unless the model's layout is joined (token healing).
        """
        infiller = self._loaded()
        return infiller.prompt(request), infiller.fim.split(request.prefix)[1]

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        infiller = self._loaded()

        def work(should_stop: ShouldStop) -> Rewrite | None:
            return self._rewrite(infiller, request, should_stop)

        return await self.scheduler.run(request, work, None)

    async def instruct(self, request: InstructionRequest) -> Rewrite | None:
        infiller = self._loaded()

        def work(should_stop: ShouldStop) -> Rewrite | None:
            return self._rewrite(infiller, request, should_stop)

        return await self.scheduler.run(request, work, None)

    async def why_not_instruct(self) -> str | None:
        from fim_model.errors import RequestError

        infiller = self._loaded()
        try:
            infiller.conversation()
        except RequestError as mute:
            return str(mute).partition(";")[0] + f"; {_FOLLOWING}"
        if self._score is None:
            if self._scoring is None or self._scoring.done():
                self._scoring = asyncio.create_task(self._measured())
            self._score = await asyncio.shield(self._scoring)
        if self._score.suffices:
            return None
        return (
            f"{infiller.name} converses, but does not follow instructions well enough to edit code "
            f"({self._score}); {_FOLLOWING}"
        )

    async def _measured(self) -> InstructionScore:
        """The model's score, measured and kept unless it is known."""
        from fim_model.calibration.instruction_score import TASKS, InstructionScore

        files = score_files(self._model)
        if known := InstructionScore.read(files):
            return known
        score = InstructionScore(0, 0)
        for task in TASKS:
            rewrite = None
            while rewrite is None:
                try:
                    # None: a completion took its place, and it is asked again.
                    rewrite = await self.instruct(task.request)
                except Unfit:  # it came to no end
                    break
                if rewrite is None:
                    await asyncio.sleep(PREEMPTED_SECONDS)
            score = score.and_(rewrite is not None and task.is_done(rewrite.new))
            if score.decided:
                break
        try:
            score.write(files[-1])
        except OSError as full:
            logger.warning("the model's score of instructions is not kept: %s", where(full))
        return score

    async def answer(self, request: ChatRequest, on_text: TextListener) -> str:
        completion = await self.stream(request, on_text)
        return completion.items[0].text if completion.items else ""

    @property
    def infiller(self) -> Infiller:
        """The loaded model, for what needs no forward. Raises BackendError before it is loaded."""
        return self._loaded()

    async def forget(self, session: str) -> None:
        if self._infiller is not None:
            self._infiller.forget(session)

    def forget_unused(self, seconds: float) -> None:
        """Evict sessions idle for longer than `seconds`."""
        if self._infiller is not None:
            self._infiller.sessions.forget_unused(seconds)

    def _loaded(self) -> Infiller:
        if self._closed.is_set():
            raise BackendError("the backend is closed; make a new one")
        if self._infiller is None:
            raise BackendError("the model is not loaded; call start() and wait for it")
        return self._infiller

    async def close(self) -> None:
        self._closed.set()
        if self._scoring is not None:
            self._scoring.cancel()
        self.scheduler.close()
        self._infiller = None

    # In the worker threads.

    def _bound_threads(self) -> None:
        """torch keeps its number of threads for each thread that calls it."""
        if self._threads and not hasattr(self._thread, "ready"):
            import torch

            torch.set_num_threads(self._threads)
            self._thread.ready = True

    def _load(self, report: Progress) -> Infiller | None:
        report("Starting torch", 0.0)
        # Read when torch is first imported. By default, OpenMP threads that wait for each other
        # spin: while a build is running, a forward then takes seconds instead of milliseconds.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            from fim_model.errors import CheckpointError
            from fim_model.infiller import Infiller
        except ImportError as missing:
            raise BackendError(
                f"a local model needs the module {missing.name}: pip install 'fim-server[local]'"
            ) from missing
        if self._closed.is_set():
            return None
        try:
            auto = measured_choice(self._model)
            return Infiller.load(
                self._model,
                threads=self._threads,
                auto=auto,
                cache_bytes=self._cache_bytes,
                batched=True,
                adapters=self._adapters,
                progress=report,
            )
        except CheckpointError as problem:
            raise BackendError(str(problem)) from problem
        except Exception as mistake:
            raise BackendError(
                f"the model {self._model or '(default)'} could not be loaded ({where(mistake)}); "
                "choose another one with the setting 'model'"
            ) from mistake

    def _infill(
        self,
        infiller: Infiller,
        request: CompletionRequest | ChatRequest,
        should_stop: ShouldStop,
        on_step: Callable[[Step], None],
    ) -> Completion:
        from fim_model.errors import Cancelled, RequestError

        def stopped() -> bool:
            return should_stop() or self._closed.is_set()

        if stopped():
            return Completion()
        self._bound_threads()
        try:
            return infiller.infill(request, should_stop=stopped, on_step=on_step)
        except Cancelled:
            return Completion()
        except RequestError as unfit:
            raise Unfit(str(unfit)) from unfit
        except Exception as mistake:
            raise BackendError(f"the model failed on a request ({where(mistake)})") from mistake

    def _rewrite(
        self,
        infiller: Infiller,
        request: RewriteRequest | InstructionRequest,
        should_stop: ShouldStop,
    ) -> Rewrite | None:
        from fim_model.errors import Cancelled

        def stopped() -> bool:
            return should_stop() or self._closed.is_set()

        if stopped():
            return None
        if isinstance(request, RewriteRequest) and infiller.rewriter.way is None:
            raise Unsupported("this model was not trained on edits and denoises no blocks")
        self._bound_threads()
        try:
            if isinstance(request, InstructionRequest):
                return infiller.instruct(request, should_stop=stopped)
            return infiller.rewrite(request, should_stop=stopped)
        except Cancelled:
            return None
        except ValueError as unfit:
            raise Unfit(str(unfit)) from unfit
        except Exception as mistake:
            raise BackendError(f"the model failed on a rewrite ({where(mistake)})") from mistake


def _in_loop(listener: Callable[[T], None]) -> Callable[[T], None]:
    """The listener for other threads: it is called in the running event loop."""
    loop = asyncio.get_running_loop()

    def report(said: T) -> None:
        loop.call_soon_threadsafe(listener, said)

    return report


def _text_of_steps(infiller: Infiller, on_text: TextListener) -> Callable[[Step], None]:
    """A listener to steps that reports the text of the first alternative.

    Draft steps are left out: their tokens may still be rejected.
    """
    from fim_model.decoding.core import ForwardKind

    prefills = 0

    def on_step(step: Step) -> None:
        nonlocal prefills
        prefills += step.kind is ForwardKind.PREFILL
        if prefills == 1 and step.kind is not ForwardKind.DRAFT:
            on_text(infiller.tokenizer.decode(step.hole)[step.typed :])

    return on_step
