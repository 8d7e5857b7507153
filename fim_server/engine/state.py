"""The state shared by the engine's endpoints: backend, loading status, last activity."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend
from fim_server.engine.prometheus import Metrics
from fim_server.log import where

Status = Literal["loading", "ok", "failed"]


@dataclass(slots=True)
class EngineState:
    """`doing` and `share` (0..1) are the progress of loading, `problem` is why it failed.

    `loaded` is set when loading has ended, in success or failure.
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
