"""What the engine's endpoints share: the backend, how far it is, and when it was last wanted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend
from fim_server.engine.prometheus import Metrics

Status = Literal["loading", "ok", "failed"]


@dataclass(slots=True)
class EngineState:
    """`doing` and `share` tell how far loading is; `problem` why it failed."""

    backend: InProcessBackend
    model: str
    metrics: Metrics
    status: Status = "loading"
    doing: str = ""
    share: float = 0.0
    problem: str = ""
    active: int = 0
    last_used: float = field(default_factory=time.monotonic)

    async def load(self) -> None:
        """Make the backend ready. Never raises: `status` and `problem` say how it went."""
        try:
            await self.backend.start(self._progress)
        except BackendError as problem:
            self.status, self.problem = "failed", str(problem)
        else:
            self.status = "ok"
        self.touch()

    def touch(self) -> None:
        self.last_used = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Since the last request ended; 0 while there is one."""
        busy = self.active or self.status == "loading"
        return 0.0 if busy else time.monotonic() - self.last_used

    def _progress(self, what: str, share: float) -> None:
        self.doing, self.share = what, share


def model_name(model: str | None) -> str:
    """What the model is called to clients: never the path, which names the user's folders."""
    return "default" if model is None else Path(model).name or model
