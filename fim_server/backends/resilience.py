"""Patience with a server that is not ours: retries that back off, a breaker that lets it rest."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fim_server.backends.base import BackendError

T = TypeVar("T")

FAILURES_TO_OPEN = 3
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 120.0
RETRIES = 2
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 2.0
"""A server that asks for more patience than this gets it from the breaker: a keystroke is over."""


class Temporary(BackendError):
    """Trouble that may be over in a moment. `after` is how long the server asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(slots=True)
class CircuitBreaker:
    """After some failures in a row nothing is asked for a while, then one request tries again.

    The rest doubles each time it was in vain. `clock` gives seconds.
    """

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    rest: float = FIRST_REST_SECONDS
    closed_until: float = 0.0
    trying: bool = False
    problem: str = ""

    def check(self) -> None:
        """Raises BackendError while the server is left alone."""
        if self.failures < FAILURES_TO_OPEN:
            return
        remaining = self.closed_until - self.clock()
        if remaining > 0 or self.trying:
            raise BackendError(
                f"{self.problem}; it is not asked again for {max(remaining, 0):.0f} s"
            )
        self.trying = True

    def succeeded(self) -> None:
        self.failures, self.rest, self.trying = 0, FIRST_REST_SECONDS, False

    def failed(self, problem: str) -> None:
        self.failures += 1
        self.problem = problem
        if self.failures >= FAILURES_TO_OPEN:
            self.closed_until = self.clock() + self.rest
            self.rest = min(2 * self.rest, LONGEST_REST_SECONDS)
        self.trying = False

    def abandoned(self) -> None:
        """The one that tried was cancelled: that says nothing about the server."""
        self.trying = False


async def patiently(
    breaker: CircuitBreaker,
    attempt: Callable[[], Awaitable[T]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """The result of `attempt`, which may be tried again after a Temporary error.

    Raises BackendError. Any other error than a Temporary one is not the server's health.
    """
    breaker.check()
    try:
        for retry in range(RETRIES + 1):
            try:
                result = await attempt()
            except Temporary as trouble:
                wait = _pause(retry) if trouble.after is None else trouble.after
                if retry == RETRIES or wait > LONGEST_RETRY_SECONDS:
                    breaker.failed(str(trouble))
                    raise
                await sleep(wait)
            except BackendError:
                breaker.succeeded()
                raise
            else:
                breaker.succeeded()
                return result
        raise AssertionError("the last attempt returns or raises")
    except asyncio.CancelledError:
        breaker.abandoned()
        raise


def _pause(retry: int) -> float:
    """Doubling, with up to half of it left to chance so that clients do not come back together."""
    pause = min(FIRST_RETRY_SECONDS * 2.0**retry, LONGEST_RETRY_SECONDS)
    return pause * random.uniform(0.5, 1.0)
