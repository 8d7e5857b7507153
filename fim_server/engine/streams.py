"""Text as it grows: where it must end, and how it is sent while it is written."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fim_server.engine.bodies import HttpError
from fim_server.engine.state import EngineState
from fim_server.engine.wire import WireError, check_type

SEND_SECONDS = 10.0
"""How long a client may leave the answer unread before it is given up."""

MOST_STOPS = 16

Events = AsyncGenerator[dict[str, Any] | str, None]


class Stops:
    """Ends a growing text before the first stop string; holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self.found: str | None = None

    def cut(self, text: str) -> str:
        """The text without the first stop string and all behind it; `found` names that string."""
        places = [(text.index(stop), stop) for stop in self._stops if stop in text]
        if not places:
            return text
        place, self.found = min(places)
        return text[:place]

    def settled(self, text: str) -> str:
        """What of an unfinished text is certain to stay, whatever comes next."""
        text = self.cut(text)
        if self.found is not None:
            return text
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        return text[: len(text) - held]


def read_stops(value: object) -> list[str]:
    """A `stop` field: null, a string, or a list of them. Raises WireError."""
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > MOST_STOPS:
        raise WireError(f"'stop' must be text or a list of at most {MOST_STOPS} texts")
    for stop in stops:
        check_type("stop", stop, str)
    return stops


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


class EventStream(Response):
    """Server-sent events. Stops, and closes the events, when the client leaves or never reads."""

    media_type = "text/event-stream"

    def __init__(self, state: EngineState, events: Events) -> None:
        super().__init__(headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._state, self._events = state, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state.active += 1
        sending = asyncio.create_task(self._send_all(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError, TimeoutError):
                    await task
            await self._events.aclose()
            self._state.active -= 1
            self._state.touch()

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with asyncio.timeout(SEND_SECONDS):
            await send(start)
        async for event in self._events:
            data = event if isinstance(event, str) else json.dumps(event)
            chunk = f"data: {data}\n\n".encode()
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def error_event(error: HttpError) -> dict[str, Any]:
    """An error after the stream has begun, when the status can no longer say it."""
    return {"error": {"message": str(error), "type": error.kind, "code": error.status}}
