"""Retries with back-off, and a circuit breaker, for servers that are not ours."""

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
FIRST_OPEN_SECONDS = 5.0
LONGEST_OPEN_SECONDS = 120.0
RETRIES = 2
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 2.0
"""A server that asks for a longer wait is left to the circuit breaker: by then the user has typed
on."""


class Temporary(BackendError):
    """A failure worth a retry. `after` is the wait in seconds that the server asks for, if any."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(slots=True)
class CircuitBreaker:
    """Refuses calls for a while after FAILURES_TO_OPEN failures in a row, then lets one probe pass.

    The circuit is open while calls are refused, and half-open during the probe. The back-off
    doubles after every failure, up to LONGEST_OPEN_SECONDS. `clock` gives seconds.
    """

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    backoff: float = FIRST_OPEN_SECONDS
    open_until: float = 0.0
    probing: bool = False
    problem: str = ""

    def check(self) -> None:
        """Raises BackendError while the circuit is open, or another call probes the server."""
        if self.failures < FAILURES_TO_OPEN:
            return
        remaining = self.open_until - self.clock()
        if remaining > 0 or self.probing:
            raise BackendError(f"{self.problem}; next attempt in {max(remaining, 0):.0f} s")
        self.probing = True

    def succeeded(self) -> None:
        """Close the circuit."""
        self.failures, self.backoff, self.probing = 0, FIRST_OPEN_SECONDS, False

    def failed(self, problem: str) -> None:
        """Count a failure; the circuit opens, or stays open, after enough of them."""
        self.failures += 1
        self.problem = problem
        if self.failures >= FAILURES_TO_OPEN:
            self.open_until = self.clock() + self.backoff
            self.backoff = min(2 * self.backoff, LONGEST_OPEN_SECONDS)
        self.probing = False

    def abandoned(self) -> None:
        """End a call that was cancelled, which says nothing about the server."""
        self.probing = False


async def with_retries(
    breaker: CircuitBreaker,
    attempt: Callable[[], Awaitable[T]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """The result of `attempt`, retried after Temporary errors. Raises BackendError.

    Any other BackendError is an answer: the request is at fault, and the server is well.
    """
    breaker.check()
    try:
        for retry in range(RETRIES + 1):
            try:
                result = await attempt()
            except Temporary as trouble:
                wait = _backoff(retry) if trouble.after is None else trouble.after
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


def _backoff(retry: int) -> float:
    """Seconds before a retry: doubling, with random jitter so that clients do not retry at once."""
    longest = min(FIRST_RETRY_SECONDS * 2.0**retry, LONGEST_RETRY_SECONDS)
    return longest * random.uniform(0.5, 1.0)
