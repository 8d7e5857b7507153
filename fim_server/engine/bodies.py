"""Request bodies, which may be slow, huge, malformed or aborted; and the shape of errors."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from fim_server.backends.base import BackendError, Unfit, Unsupported
from fim_server.backends.scheduler import Busy
from fim_server.engine.wire import WireError
from fim_server.log import where

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 2**20
BODY_SECONDS = 10.0
"""Timeout for receiving a request body."""

T = TypeVar("T")


class HttpError(Exception):
    """An error response, in the shape that OpenAI's clients expect."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind

    def response(self) -> JSONResponse:
        error = {"message": str(self), "type": self.kind, "param": None, "code": self.status}
        headers = {"Retry-After": "1"} if self.status == 503 else None
        return JSONResponse({"error": error}, self.status, headers=headers)


def refusal(error: Exception) -> HttpError:
    """The HTTP error for an exception; an unexpected one is reported without its message, which
    may quote code."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, WireError | Unfit):
        return HttpError(400, str(error))
    if isinstance(error, Busy):
        return HttpError(503, str(error), "overloaded")
    if isinstance(error, Unsupported):
        return HttpError(501, str(error), "unsupported")
    if isinstance(error, BackendError):
        return HttpError(503, str(error), "backend_error")
    logger.error("a request failed: %s", where(error))
    return HttpError(500, f"internal error ({where(error)})", "server_error")


async def read_json(request: Request) -> Any:
    """The body as JSON. Raises HttpError if it is too large, too slow, cut off or not JSON."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise HttpError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise HttpError(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except ClientDisconnect:
        raise HttpError(400, "the body is cut off") from None
    try:
        return json.loads(b"".join(chunks))
    except (ValueError, RecursionError):
        raise HttpError(400, "the body is not valid JSON") from None


async def unless_disconnected(request: Request, answer: Awaitable[T]) -> T:
    """The result of `answer`; cancels it and raises ClientDisconnect if the client disconnects."""
    work = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
