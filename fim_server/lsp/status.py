"""The server's state, as `didChangeStatus` notifications of Copilot's protocol.

`{busy, message, kind, why}` with kind Normal, Error, Warning or Inactive, sent on every change to
clients that announce that they know it (`lsp/announced.py`).
`why` is ours: plain words for why the last request had no suggestion, "" if it had one. So is
`adapter`, which is there and true where the last document was completed with what was learned from
its workspace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fim_server.completion.silence import Silence

METHOD = "didChangeStatus"

PASSING = (Silence.STALE, Silence.SUPERSEDED, Silence.CANCELLED)
"""Reasons of requests that a newer one has replaced."""

Kind = Literal["Normal", "Error", "Warning", "Inactive"]


@dataclass(frozen=True, slots=True)
class Status:
    """`message` is the current step, the problem with its remedy, or why nothing is suggested."""

    busy: bool = False
    message: str = ""
    kind: Kind = "Normal"
    why: str = ""
    adapter: bool = False

    def as_json(self) -> dict[str, Any]:
        """Without `adapter` unless it says something."""
        fields = asdict(self)
        return fields if self.adapter else {k: v for k, v in fields.items() if k != "adapter"}


class StatusReporter:
    """Notifies the client of changes of state. Busy lasts while any request is in progress."""

    def __init__(self, notify: Callable[[str, Any], None]) -> None:
        self.announced = False
        """Whether the client handles the notification; others would log a warning each time."""
        self._notify = notify
        self._sent: Status | None = None
        self._idle = Status()
        self._requests = 0
        self._adapted = False

    def loading(self, what: str, share: float) -> None:
        """A step of loading has progressed to `share`, 0..1."""
        percent = round(100 * min(max(share, 0.0), 1.0))
        self._set_idle(Status(True, f"{what} ({percent} %)"))

    def ready(self) -> None:
        self._set_idle(Status())

    def failed(self, problem: str) -> None:
        """Loading failed; `problem` names the remedy."""
        self._set_idle(Status(kind="Error", message=problem))

    def asked(self) -> None:
        """A request arrived."""
        self._requests += 1
        if self._idle.kind == "Normal" and not self._idle.busy:
            self._send(replace(self._idle, busy=True))

    def answered(self, silence: Silence | None, detail: str, *, adapted: bool = False) -> None:
        """A request was answered; inactive if this document or its language gets no suggestions.

        adapted: with what was learned from the workspace.
        """
        self._requests -= 1
        self._adapted = adapted
        if self._idle.kind == "Error" or self._idle.busy:
            return
        why = "" if silence is None else silence.explained + (f" ({detail})" if detail else "")
        self._idle = Status(why=why)
        if silence in (Silence.EXCLUDED, Silence.LANGUAGE_DISABLED):
            self._idle = Status(kind="Inactive", message=f"{silence}: {detail}", why=why)
        elif silence is Silence.BACKEND_ERROR:
            message = f"the last request failed: {detail}"
            self._idle = Status(kind="Warning", message=message, why=why)
        elif self._requests and silence in PASSING:
            return  # the answer to a newer request says more
        busy = bool(self._requests) and not self._idle.message
        self._send(replace(self._idle, busy=busy))

    def _set_idle(self, status: Status) -> None:
        self._idle = status
        self._send(status)

    def _send(self, status: Status) -> None:
        status = replace(status, adapter=self._adapted)
        if status != self._sent:
            self._sent = status
            if self.announced:
                self._notify(METHOD, status.as_json())
