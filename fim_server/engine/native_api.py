"""`POST /v1/fim`, `/v1/rewrite`, `/v1/forget`: fim-server's own requests, with sessions."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.backends.base import Completion, CompletionRequest
from fim_server.backends.in_process import TextListener
from fim_server.engine.bodies import HttpError, read_json, unless_disconnected
from fim_server.engine.state import EngineState
from fim_server.engine.wire import (
    check_type,
    completion_to_json,
    request_from_json,
    rewrite_from_json,
    rewrite_to_json,
)


async def fim(state: EngineState, http: Request) -> Response:
    """The body is a CompletionRequest, the answer a Completion; a superseded one has no items."""
    request = request_from_json(await read_json(http))
    completion = await unless_disconnected(http, answer(state, "native", request))
    return JSONResponse(completion_to_json(completion))


async def rewrite(state: EngineState, http: Request) -> Response:
    """The body is a RewriteRequest; the answer has no rewrite if another request took its place."""
    request = rewrite_from_json(await read_json(http))
    _check_loaded(state)
    began = time.perf_counter()
    rewritten = await unless_disconnected(http, state.backend.rewrite(request))
    state.metrics.rewritten(time.perf_counter() - began, rewritten)
    return JSONResponse(rewrite_to_json(rewritten))


async def forget(state: EngineState, http: Request) -> Response:
    """The body names a session that is over: its keys are freed, and those of its parts."""
    body = await read_json(http)
    session = body.get("session") if isinstance(body, dict) else None
    check_type("session", session, str)
    assert isinstance(session, str)
    await state.backend.forget(session)
    return JSONResponse({})


async def answer(
    state: EngineState,
    api: str,
    request: CompletionRequest,
    on_text: TextListener | None = None,
    *,
    latest_wins: bool = True,
) -> Completion:
    """Run the model on a request of any API. Raises HttpError for a request it cannot be asked."""
    _check_loaded(state)
    try:
        state.backend.check(request)
    except ValueError as unfit:
        raise HttpError(400, str(unfit)) from None
    began = time.perf_counter()
    completion = await state.backend.stream(request, on_text, latest_wins=latest_wins)
    state.metrics.answered(api, time.perf_counter() - began, completion)
    return completion


def _check_loaded(state: EngineState) -> None:
    if state.status != "ok":
        raise HttpError(503, state.problem or "the model is being loaded", "backend_error")
