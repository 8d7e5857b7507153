"""The search for regions that may follow from edits, in a thread that can be stopped.

Rules are plain Python: they read pages in nested loops, and none of them asks whether it should go
on. So the thread is stopped from outside, by an exception that Python raises in it at its next
instruction (`PyThreadState_SetAsyncExc`). In tree-sitter, which is not Python, `syntax.parsing`
stops instead. The thread dies with the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

from fim_server.syntax.parsing import INTERRUPT, Interrupt, Interrupted

CPU_SECONDS = 0.3
"""CPU time of one search, in all documents together."""

_LOOK_SECONDS = 0.01
"""Least seconds between two looks at the CPU time of a search: other work may slow it down."""

_AGAIN_SECONDS = 0.01
"""Seconds until a thread that has not stopped is stopped again."""

T = TypeVar("T")


class GaveUp(Exception):
    """A search took too long."""


class Allowance:
    """The CPU time left to a search; it may be spent in several pieces."""

    def __init__(self, seconds: float = CPU_SECONDS) -> None:
        self.seconds = seconds

    async def spend(self, work: Callable[[], T]) -> T:
        """What `work` returns, computed in a thread of its own.

        Raises GaveUp once the CPU time is spent, and what `work` raises. Cancelling stops the work.
        """
        thread = _Thread(work, asyncio.get_running_loop())
        thread.start()
        try:
            while not thread.result.done():
                left = self.seconds - thread.cpu_seconds
                if left <= 0:
                    raise GaveUp(f"no answer within {CPU_SECONDS:g} s")
                await asyncio.wait([thread.result], timeout=max(left, _LOOK_SECONDS))
            return thread.result.result()
        finally:
            thread.stop()
            self.seconds -= thread.cpu_seconds


class _Thread(threading.Thread, Generic[T]):
    """Computes `work` and hands its result to the event loop."""

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="fim-planner", daemon=True)
        self.result: asyncio.Future[T] = loop.create_future()
        self._work, self._loop = work, loop
        self._interrupt = Interrupt()
        self._running = False
        self._began = time.monotonic()
        self._spent: float | None = None

    @property
    def cpu_seconds(self) -> float:
        """The CPU time used so far; where the system does not tell that, the time passed."""
        if self._spent is not None:
            return self._spent
        clock = getattr(time, "pthread_getcpuclockid", None)
        if clock is None or self.ident is None or not self._running:
            return time.monotonic() - self._began if clock is None else 0.0
        try:
            return time.clock_gettime(clock(self.ident))
        except OSError:  # it has just ended
            return self._spent or 0.0

    def run(self) -> None:
        context = copy_context()
        context.run(INTERRUPT.set, self._interrupt)
        try:
            self._running = True
            try:
                if self._interrupt.stopped:
                    return
                answer = context.run(self._work)
            finally:
                # `stop` holds Python's lock, so from here on it raises nothing in this thread.
                self._running = False
                self._spent = time.thread_time()
        except Interrupted:
            return
        except Exception as problem:
            self._hand_over(problem=problem)
        else:
            self._hand_over(answer=answer)

    def stop(self) -> None:
        """Stop the work; does nothing if it is done. Call it in the event loop."""
        self._interrupt.stopped = True
        if not self._running or self.ident is None:
            return
        if not self._interrupt.parsing:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.ident), ctypes.py_object(Interrupted)
            )
        # Python ignores an exception in a finalizer or a callback of the garbage collector, where
        # the thread may just have been.
        if not self._loop.is_closed():
            self._loop.call_later(_AGAIN_SECONDS, self.stop)

    def _hand_over(self, answer: T | None = None, problem: Exception | None = None) -> None:
        def settle() -> None:
            if self.result.done():
                return
            if problem is None:
                self.result.set_result(answer)  # type: ignore[arg-type]
            else:
                self.result.set_exception(problem)

        try:
            self._loop.call_soon_threadsafe(settle)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more
