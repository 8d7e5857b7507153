"""What state the server is in, as `didChangeStatus` notifications in Copilot's shape.

`{busy, message, kind}` with kind Normal, Error, Warning or Inactive. Said once for each change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fim_server.completion.silence import Silence

METHOD = "didChangeStatus"

Kind = Literal["Normal", "Error", "Warning", "Inactive"]


@dataclass(frozen=True, slots=True)
class Status:
    """`message` says what is done, what is wrong with the way out, or why nothing is suggested."""

    busy: bool = False
    message: str = ""
    kind: Kind = "Normal"


class StatusReporter:
    """Tells a client of changes. Requests may overlap: busy is while any is worked on."""

    def __init__(self, notify: Callable[[str, Any], None]) -> None:
        self._notify = notify
        self._told: Status | None = None
        self._calm = Status()
        self._requests = 0

    def loading(self, what: str, share: float) -> None:
        """`share` in 0..1."""
        percent = round(100 * min(max(share, 0.0), 1.0))
        self._settle(Status(True, f"{what} ({percent} %)"))

    def ready(self) -> None:
        self._settle(Status())

    def failed(self, problem: str) -> None:
        """`problem` names the remedy."""
        self._settle(Status(kind="Error", message=problem))

    def asked(self) -> None:
        """A request is being worked on."""
        self._requests += 1
        if self._calm == Status():
            self._tell(Status(busy=True))

    def answered(self, silence: Silence | None, detail: str) -> None:
        """A request is done. Where no document of the kind is completed, the state is inactive."""
        self._requests -= 1
        if self._calm.kind == "Error" or self._calm.busy:
            return
        self._calm = Status()
        if silence in (Silence.EXCLUDED, Silence.LANGUAGE_DISABLED):
            self._calm = Status(kind="Inactive", message=f"{silence}: {detail}")
        elif silence is Silence.BACKEND_ERROR:
            self._calm = Status(kind="Warning", message="the last request failed; see the log")
        self._tell(Status(busy=True) if self._requests and not self._calm.message else self._calm)

    def _settle(self, status: Status) -> None:
        self._calm = status
        self._tell(status)

    def _tell(self, status: Status) -> None:
        if status != self._told:
            self._told = status
            self._notify(METHOD, asdict(status))
