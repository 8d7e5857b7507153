"""One computation per key at a time: equal requests share it, a newer request replaces it.

This is "single flight" with replacement, for work whose result is only wanted while it is the
newest of its kind: completions of a document, searches for its next edit, requests of a session.
What a key and a request are is up to the owner, and so is how the work is done: all that is asked
of it is a future, which is cancelled to stop the work. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R", bound="SharedRun[Any]")
T = TypeVar("T")

SUPERSEDED = "superseded"
ABANDONED = "abandoned"
"""The reason of a run whose last waiter was cancelled."""


class Stopped(Exception):
    """The awaited run was stopped before its result was handed over; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class RunCounts:
    """What became of the requests: joined an equal one, replaced by a newer one, abandoned."""

    coalesced: int = 0
    superseded: int = 0
    cancelled: int = 0


@dataclass(slots=True, eq=False)
class SharedRun(Generic[T]):
    """One computation, shared by `waiters` callers; `future` will hold its result.

    `urgent` False marks work that never replaces urgent work. `stopped` is the reason why the run
    was stopped, None while it was not.
    """

    key: Hashable
    request: object
    future: asyncio.Future[T]
    urgent: bool = True
    waiters: int = 0
    stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Stop the work; every waiter gets Stopped(reason). The first reason stands."""
        if self.stopped is None:
            self.stopped = reason
            self.future.cancel()


class LatestOnly(Generic[R]):
    """The runs under way: at most one urgent and one other per key.

    A caller joins or starts a run, then awaits its `result`, with no other await in between. A run
    is forgotten when its last waiter leaves.
    """

    def __init__(self, superseded: str = SUPERSEDED, counts: RunCounts | None = None) -> None:
        """`superseded` is the reason given to the waiters of a run that a newer one replaces."""
        self.counts = counts or RunCounts()
        self._superseded = superseded
        self._runs: dict[Hashable, list[R]] = {}

    @property
    def keys(self) -> list[Any]:
        """The keys that have a run."""
        return list(self._runs)

    def join(self, key: Hashable, request: object, *, urgent: bool = True) -> R | None:
        """The run of this key that computes an equal request, None if there is none.

        A run that an urgent request joins becomes urgent.
        """
        for run in self._runs.get(key, ()):
            if run.stopped is None and run.request == request:
                self.counts.coalesced += 1
                run.urgent = run.urgent or urgent
                return run
        return None

    def supersede(self, key: Hashable, *, urgent: bool = True) -> None:
        """Stop what a new request of this key replaces: urgent runs by urgent requests only."""
        for run in self._runs.get(key, ()):
            if run.stopped is None and (urgent or not run.urgent):
                self.counts.superseded += 1
                run.stop(self._superseded)

    def start(self, run: R) -> R:
        """Enter a new run in the place of the older one of its key."""
        self.supersede(run.key, urgent=run.urgent)
        self._runs.setdefault(run.key, []).append(run)
        return run

    async def result(self, run: SharedRun[T]) -> T:
        """The result of a run, with this caller among its waiters.

        Raises Stopped, or what the work raised. Cancelling the last waiter stops the run.
        """
        run.waiters += 1
        try:
            result = await asyncio.shield(run.future)
        except asyncio.CancelledError:
            if run.stopped is None:
                raise
            raise Stopped(run.stopped) from None
        finally:
            self._leave(run)
        if run.stopped is not None:
            raise Stopped(run.stopped)
        return result

    def detach(self, run: SharedRun[Any]) -> None:
        """Let a run go on without a waiter, until it is done or stopped."""
        run.waiters += 1
        run.future.add_done_callback(lambda _: self._leave(run))

    def stop(self, key: Hashable, reason: str) -> None:
        """Stop the runs of a key. A result that was not handed over yet is dropped as well."""
        for run in self._runs.get(key, ()):
            run.stop(reason)

    def stop_all(self, reason: str) -> None:
        for key in self.keys:
            self.stop(key, reason)

    def _leave(self, run: SharedRun[Any]) -> None:
        run.waiters -= 1
        if run.waiters:
            return
        if run.stopped is None and not run.future.done():
            self.counts.cancelled += 1
            run.stop(ABANDONED)
        others = [other for other in self._runs.get(run.key, ()) if other is not run]
        if others:
            self._runs[run.key] = others
        else:
            self._runs.pop(run.key, None)
