"""Who gets the model next: a few worker threads, and the rules by which requests wait for them.

* Per session the latest wins: a newer request ends the older one, which is answered empty.
* No two requests of a session run at once: they share the session's cache.
* What a person waits for goes before speculation, ends a speculation that is running, and never
  runs beside one.
* The same request asked twice is computed once.
* The queue is bounded: who comes when it is full is refused at once.

Work is stopped by a flag that it reads between two forwards. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from fim_model.requests import CompletionRequest, RewriteRequest

from fim_server.backends.base import BackendError

ShouldStop = Callable[[], bool]
Request = CompletionRequest | RewriteRequest
T = TypeVar("T")
"""What work makes. It runs in the worker thread; asked to stop, it returns anything of its kind:
nobody reads it."""

QUEUE_LIMIT = 32


class Busy(BackendError):
    """Too many requests wait already."""


@dataclass(slots=True)
class SchedulerCounts:
    """What became of the requests, since the start."""

    finished: int = 0
    superseded: int = 0
    preempted: int = 0
    coalesced: int = 0
    cancelled: int = 0
    refused: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """One piece of work and those who wait for it; `number` is its place in the order."""

    request: Request
    work: Callable[[ShouldStop], Any]
    nothing: Any
    done: asyncio.Future[Any]
    number: int
    latest_wins: bool
    stop: threading.Event
    waiters: int = 0

    @property
    def order(self) -> tuple[bool, int]:
        return self.request.speculative, self.number

    def end(self) -> None:
        """Nobody wants it any more: stop it, and let those who wait go with an empty answer."""
        self.stop.set()
        if not self.done.done():
            self.done.set_result(self.nothing)


class Scheduler:
    """Runs work on threads of its own, `at_once` at most, in the order of the rules above."""

    def __init__(self, limit: int = QUEUE_LIMIT, at_once: int = 1) -> None:
        self.counts = SchedulerCounts()
        self._limit, self._at_once = limit, at_once
        self._worker = ThreadPoolExecutor(at_once, thread_name_prefix="fim-model")
        self._queue: list[_Job] = []
        self._running: list[_Job] = []
        self._numbers = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests in the queue, without the running ones."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that are worked on."""
        return len(self._running)

    @property
    def worker(self) -> ThreadPoolExecutor:
        """The threads that use the model, to load it there."""
        return self._worker

    async def run(
        self,
        request: Request,
        work: Callable[[ShouldStop], T],
        nothing: T,
        *,
        latest_wins: bool = True,
    ) -> T:
        """The result of `work`; `nothing` if another request took its place. Raises Busy.

        Cancelling the caller stops the work, unless another caller waits for the same request.
        `latest_wins` False leaves older requests of the session alone (clients that queue).
        """
        if self._closed:
            raise BackendError("the engine is shutting down; ask again")
        job = self._same(request) if latest_wins else None
        if job is None:
            job = self._enqueue(request, work, nothing, latest_wins)
        else:
            self.counts.coalesced += 1
            if not request.speculative:
                job.request = request
        if not job.request.speculative:
            self._preempt_speculation(job)
        job.waiters += 1
        self._start_next()
        try:
            result: T = await asyncio.shield(job.done)
            return result
        finally:
            job.waiters -= 1
            if not job.waiters and not job.done.done():
                self.counts.cancelled += 1
                self._drop(job)

    def close(self) -> None:
        """End everything; the worker threads leave after the forward they are in."""
        self._closed = True
        for job in self._jobs():
            self._drop(job)
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _jobs(self) -> list[_Job]:
        return [*self._running, *self._queue]

    def _same(self, request: Request) -> _Job | None:
        wanted = replace(request, speculative=False)
        for job in self._jobs():
            if not job.stop.is_set() and replace(job.request, speculative=False) == wanted:
                return job
        return None

    def _enqueue(
        self,
        request: Request,
        work: Callable[[ShouldStop], Any],
        nothing: object,
        latest_wins: bool,
    ) -> _Job:
        if latest_wins and request.session:
            self._supersede(request)
        if len(self._queue) >= self._limit and not self._make_room(request):
            self.counts.refused += 1
            raise Busy(f"the engine has {len(self._queue)} requests waiting; ask again in a moment")
        self._numbers += 1
        done = asyncio.get_running_loop().create_future()
        job = _Job(request, work, nothing, done, self._numbers, latest_wins, threading.Event())
        self._queue.append(job)
        return job

    def _supersede(self, request: Request) -> None:
        """End what the session asked before; speculation does not end what a person waits for."""
        for job in self._jobs():
            if (
                job.request.session == request.session
                and job.latest_wins
                and not job.stop.is_set()
                and (job.request.speculative or not request.speculative)
            ):
                self.counts.superseded += 1
                self._drop(job)

    def _preempt_speculation(self, job: _Job) -> None:
        for running in self._running:
            if running is not job and running.request.speculative:
                if not running.stop.is_set():
                    self.counts.preempted += 1
                self._drop(running)

    def _make_room(self, request: Request) -> bool:
        speculative = [job for job in self._queue if job.request.speculative]
        if request.speculative or not speculative:
            return False
        self._drop(max(speculative, key=lambda job: job.order))
        return True

    def _drop(self, job: _Job) -> None:
        job.end()
        if job in self._queue:
            self._queue.remove(job)

    def _start_next(self) -> None:
        while not self._closed and (job := self._next_job()):
            self._queue.remove(job)
            self._running.append(job)
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._worker, job.work, job.stop.is_set)
            future.add_done_callback(partial(self._finished, job))

    def _next_job(self) -> _Job | None:
        """The first in the queue that may run beside those that are running."""
        if len(self._running) >= self._at_once:
            return None
        sessions = {job.request.session for job in self._running}
        fit = [job for job in self._queue if job.request.session not in sessions]
        if not all(job.request.speculative for job in self._jobs()):
            fit = [job for job in fit if not job.request.speculative]
        return min(fit, key=lambda job: job.order, default=None)

    def _finished(self, job: _Job, future: asyncio.Future[Any]) -> None:
        self._running.remove(job)
        failure = None if future.cancelled() else future.exception()
        if not job.done.done():
            self.counts.finished += 1
            if future.cancelled():
                job.done.cancel()
            elif failure is not None:
                job.done.set_exception(failure)
            else:
                job.done.set_result(future.result())
        self._start_next()
