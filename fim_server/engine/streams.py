"""Streaming answers: stop strings in a growing text, and server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fim_server.engine.bodies import HttpError
from fim_server.engine.state import EngineState
from fim_server.engine.wire import WireError, check_type

SEND_SECONDS = 10.0
"""Timeout for sending one event to a client that does not read."""

MAX_STOPS = 16

Events = AsyncGenerator[dict[str, Any] | str, None]

Said = TypeVar("Said")
Result = TypeVar("Result")


class Stops:
    """Cuts a growing text at its first stop string, and holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self.found: str | None = None

    def cut(self, text: str) -> str:
        """The text before the first stop string; sets `found` to that stop string."""
        places = [(text.index(stop), stop) for stop in self._stops if stop in text]
        if not places:
            return text
        place, self.found = min(places)
        return text[:place]

    def settled(self, text: str) -> str:
        """The part of an unfinished text that no stop string can still cut, whatever follows."""
        text = self.cut(text)
        if self.found is not None:
            return text
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        return text[: len(text) - held]


def read_stops(value: object) -> list[str]:
    """The stop strings in a `stop` field: null, a string, or a list. Raises WireError."""
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise WireError(f"'stop' must be a string or a list of at most {MAX_STOPS} strings")
    for stop in stops:
        check_type("stop", stop, str)
    return stops


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


@contextlib.asynccontextmanager
async def listening(
    work: Callable[[Callable[[Said], None]], Coroutine[Any, Any, Result]],
) -> AsyncIterator[tuple[AsyncIterator[Said], asyncio.Task[Result]]]:
    """What `work` says to the listener that it is given, until it ends, and its result to await.

    Leaving the context cancels the work.
    """
    heard: asyncio.Queue[Said | None] = asyncio.Queue()
    task = asyncio.create_task(work(heard.put_nowait))
    task.add_done_callback(lambda _: heard.put_nowait(None))

    async def said() -> AsyncIterator[Said]:
        while (item := await heard.get()) is not None:
            yield item

    try:
        yield said(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


class EventStream(Response):
    """A response of server-sent events; closes `events` if the client disconnects or stalls."""

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
    """An error as an event, for when the HTTP status has already been sent."""
    return {"error": {"message": str(error), "type": error.kind, "code": error.status}}
