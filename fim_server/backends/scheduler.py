"""Which request gets the model next: a few worker threads, and a bounded queue before them.

* Per session the latest wins: a newer request stops the older one, which is answered empty.
* The same request asked twice is computed once (both by `LatestOnly`).
* No two requests of a session run at once: they share the session's cache.
* Interactive requests run before speculative ones, preempt those that run, and never run beside
  them.
* A request that finds the queue full is refused at once.

Work is stopped by a flag that it reads between two forwards. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from fim_model.requests import (
    ChatRequest,
    CompletionRequest,
    InstructionRequest,
    RewriteRequest,
)

from fim_server.backends.base import BackendError
from fim_server.backends.latest_only import LatestOnly, RunCounts, SharedRun, Stopped

ShouldStop = Callable[[], bool]
Request = CompletionRequest | ChatRequest | RewriteRequest | InstructionRequest
T = TypeVar("T")
"""The result of the work, which runs in a worker thread. Stopped work may return anything of this
type: it is not read."""

QUEUE_LIMIT = 32


class Busy(BackendError):
    """The queue is full."""


@dataclass(slots=True)
class SchedulerCounts(RunCounts):
    """What became of the requests since the start."""

    finished: int = 0
    preempted: int = 0
    refused: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class _Job(SharedRun[Any]):
    """A run in the queue or in a worker thread; `number` is its place in the order of arrival."""

    session: str
    work: Callable[[ShouldStop], Any]
    number: int

    @property
    def order(self) -> tuple[bool, int]:
        return not self.urgent, self.number

    def should_stop(self) -> bool:
        """Read by the work, in the worker thread."""
        return self.stopped is not None


class Scheduler:
    """Runs work on `at_once` threads of its own, in the order of the rules above."""

    def __init__(self, limit: int = QUEUE_LIMIT, at_once: int = 1) -> None:
        self.counts = SchedulerCounts()
        self._limit, self._at_once = limit, at_once
        self._worker = ThreadPoolExecutor(at_once, thread_name_prefix="fim-model")
        self._latest: LatestOnly[_Job] = LatestOnly(counts=self.counts)
        self._queue: list[_Job] = []
        self._running: list[_Job] = []
        self._numbers = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests in the queue, without the running ones."""
        return len(self._queued())

    @property
    def running(self) -> int:
        """Requests in the worker threads."""
        return len(self._running)

    @property
    def tasks(self) -> list[int]:
        """The numbers of the requests in the worker threads, in the order of arrival."""
        return sorted(job.number for job in self._running)

    @property
    def at_once(self) -> int:
        """Requests that may run side by side."""
        return self._at_once

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
        """The result of `work`, or `nothing` if another request took its place. Raises Busy.

        Cancelling the caller stops the work, unless another caller waits for the same request.
        `latest_wins` False leaves older requests of the session alone (clients that queue).
        """
        if self._closed:
            raise BackendError("the engine is shutting down; ask again")
        asked, urgent = replace(request, speculative=False), not request.speculative
        # Without a session a request is replaced by none, but an equal one still shares its run.
        key: Hashable = (request.session or asked) if latest_wins else object()
        job = self._latest.join(key, asked, urgent=urgent)
        if job is None:
            # First, so that the queue has room for what takes another request's place.
            self._latest.supersede(key, urgent=urgent)
            self._check_room(request)
            job = self._latest.start(self._queued_job(key, asked, work, urgent=urgent))
        if job.urgent:
            self._preempt_speculation(job)
        self._start_next()
        try:
            result: T = await self._latest.result(job)
        except Stopped:
            return nothing
        return result

    def close(self) -> None:
        """Stop everything; the worker threads end after the forward they are in."""
        self._closed = True
        self._latest.stop_all("closed")
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _queued(self) -> list[_Job]:
        """The queue, which jobs that were stopped leave here."""
        self._queue = [job for job in self._queue if job.stopped is None]
        return self._queue

    def _check_room(self, request: Request) -> None:
        """Raises Busy if the queue is full and holds no speculation that could give way."""
        queue = self._queued()
        if len(queue) < self._limit:
            return
        speculative = [job for job in queue if not job.urgent]
        if request.speculative or not speculative:
            self.counts.refused += 1
            raise Busy(f"the engine has {len(queue)} requests waiting; ask again in a moment")
        max(speculative, key=lambda job: job.order).stop("no room")

    def _queued_job(
        self, key: Hashable, asked: Request, work: Callable[[ShouldStop], Any], *, urgent: bool
    ) -> _Job:
        self._numbers += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job = _Job(
            key,
            asked,
            future,
            urgent,
            session=asked.session,
            work=work,
            number=self._numbers,
        )
        self._queue.append(job)
        return job

    def _preempt_speculation(self, job: _Job) -> None:
        for running in self._running:
            if running is not job and not running.urgent and running.stopped is None:
                self.counts.preempted += 1
                running.stop("preempted")

    def _start_next(self) -> None:
        while not self._closed and (job := self._next_job()):
            self._queue.remove(job)
            self._running.append(job)
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._worker, job.work, job.should_stop)
            future.add_done_callback(partial(self._finished, job))

    def _next_job(self) -> _Job | None:
        """The first in the queue that may run beside those that are running."""
        if len(self._running) >= self._at_once:
            return None
        queue = self._queued()
        sessions = {job.session for job in self._running}
        eligible = [job for job in queue if job.session not in sessions]
        if any(job.urgent for job in (*self._running, *queue)):
            eligible = [job for job in eligible if job.urgent]
        return min(eligible, key=lambda job: job.order, default=None)

    def _finished(self, job: _Job, outcome: asyncio.Future[Any]) -> None:
        self._running.remove(job)
        failure = None if outcome.cancelled() else outcome.exception()
        if not job.future.done():
            self.counts.finished += 1
            if outcome.cancelled():
                job.future.cancel()
            elif failure is not None:
                job.future.set_exception(failure)
            else:
                job.future.set_result(outcome.result())
        self._start_next()
