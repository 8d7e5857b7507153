"""The state shared by the engine's endpoints: backend, loading status, last activity, refusals."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend
from fim_server.engine.prometheus import Metrics
from fim_server.log import where

logger = logging.getLogger(__name__)

LOG_REFUSALS_SECONDS = 60.0
"""Minimum interval between log lines about refused requests."""

Status = Literal["loading", "ok", "failed"]


@dataclass(slots=True)
class Refusals:
    """Requests that were refused on ports since the start, and why the last one was."""

    count: int = 0
    problem: str = ""
    last: float = 0.0
    _logged: int = 0
    _next_log: float = 0.0

    def add(self, problem: str) -> None:
        """Count a refusal, and log what was refused since the last line, at most once a minute."""
        self.count, self.problem, self.last = self.count + 1, problem, time.monotonic()
        if self.last >= self._next_log:
            logger.warning("%d requests refused: %s", self.count - self._logged, problem)
            self._logged, self._next_log = self.count, self.last + LOG_REFUSALS_SECONDS

    def report(self) -> dict[str, Any] | None:
        """What happened, for people; None if nothing was refused."""
        if not self.count:
            return None
        seconds = round(time.monotonic() - self.last)
        return {"count": self.count, "problem": self.problem, "seconds_ago": seconds}


@dataclass(slots=True)
class EngineState:
    """`doing` and `share` (0..1) are the progress of loading, `problem` is why it failed.

    `loaded` is set when loading has ended, in success or failure. `ports` are the open ports of
    127.0.0.1 with their keys ("" where none is asked for). `suggestions` counts what editors showed
    and users accepted, on this machine; None where nobody knows.
    """

    backend: InProcessBackend
    model: str
    metrics: Metrics
    status: Status = "loading"
    doing: str = ""
    share: float = 0.0
    problem: str = ""
    active: int = 0
    last_used: float = field(default_factory=time.monotonic)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    started: float = field(default_factory=time.time)
    refusals: Refusals = field(default_factory=Refusals)
    ports: dict[int, str] = field(default_factory=dict)
    suggestions: Callable[[], Mapping[str, int]] | None = None

    async def load(self) -> None:
        """Load the model. Never raises: `status` and `problem` are the result."""
        try:
            await self.backend.start(self._progress)
        except BackendError as problem:
            self.status, self.problem = "failed", str(problem)
        except Exception as mistake:
            self.status, self.problem = "failed", f"the model cannot be loaded ({where(mistake)})"
        else:
            self.status = "ok"
        self.doing, self.share = "", float(self.status == "ok")
        self.touch()
        self.loaded.set()

    def touch(self) -> None:
        self.last_used = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last request ended; 0 while a request is active or the model loads."""
        busy = self.active or self.status == "loading"
        return 0.0 if busy else time.monotonic() - self.last_used

    def _progress(self, what: str, share: float) -> None:
        self.doing, self.share = what, share


def model_name(model: str | None) -> str:
    """The model's name for API clients: never its path, which reveals the user's folders."""
    return "default" if model is None else Path(model).name or model
