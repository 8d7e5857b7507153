"""fim-server's own requests, with sessions: `POST /v1/fim`, `/v1/rewrite`, `/v1/instruct`,
`/v1/instruct/check`, `/v1/forget`."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

from fim_model.requests import ChatRequest, Completion, CompletionRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.backends.base import TextListener
from fim_server.backends.in_process import TraceListener
from fim_server.engine.bodies import HttpError, read_json, refusal, unless_disconnected
from fim_server.engine.port_guard import is_for_everyone
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Events, EventStream, error_event, listening
from fim_server.engine.wire import (
    check_type,
    completion_to_json,
    instruction_from_json,
    request_from_json,
    rewrite_from_json,
    rewrite_to_json,
)


async def fim(state: EngineState, http: Request) -> Response:
    """The body is a CompletionRequest, the answer a Completion: without items if superseded.

    With `"stream": true` the answer is a stream of events: `{"step": TraceStep}` for each forward,
    when it was done, then `{"completion": Completion}`.
    """
    body = await read_json(http)
    streamed = body.pop("stream", False) if isinstance(body, dict) else False
    check_type("stream", streamed, bool)
    request = request_from_json(body)
    _check_adapter(http, request.adapter)
    if streamed:
        check_loaded(state)
        return EventStream(state, _steps(state, request))
    completion = await unless_disconnected(http, answer(state, "native", request))
    return JSONResponse(completion_to_json(completion))


async def rewrite(state: EngineState, http: Request) -> Response:
    """The body is a RewriteRequest; the rewrite is null if another request took its place."""
    request = rewrite_from_json(await read_json(http))
    _check_adapter(http, request.adapter)
    check_loaded(state)
    began = time.perf_counter()
    rewritten = await unless_disconnected(http, state.backend.rewrite(request))
    state.metrics.rewritten(time.perf_counter() - began, rewritten)
    return JSONResponse(rewrite_to_json(rewritten))


async def instruct(state: EngineState, http: Request) -> Response:
    """The body is an InstructionRequest; the rewrite is null if another request took its place."""
    request = instruction_from_json(await read_json(http))
    check_loaded(state)
    began = time.perf_counter()
    rewritten = await unless_disconnected(http, state.backend.instruct(request))
    state.metrics.rewritten(time.perf_counter() - began, rewritten)
    return JSONResponse(rewrite_to_json(rewritten))


async def instruct_check(state: EngineState, http: Request) -> Response:
    """Whether the model is good enough for edits by instruction: `{"refusal": null}`, or why not.

    The first request for a model measures it.
    """
    await read_json(http)
    check_loaded(state)
    refused = await unless_disconnected(http, state.backend.why_not_instruct())
    return JSONResponse({"refusal": refused})


async def forget(state: EngineState, http: Request) -> Response:
    """The body names a session that is over: its cached tokens are dropped, also its parts'."""
    body = await read_json(http)
    session = body.get("session") if isinstance(body, dict) else None
    check_type("session", session, str)
    assert isinstance(session, str)
    await state.backend.forget(session)
    return JSONResponse({})


async def _steps(state: EngineState, request: CompletionRequest) -> Events:
    def work(tell: TraceListener) -> Coroutine[Any, Any, Completion]:
        return answer(state, "native", request, on_trace=tell, latest_wins=False)

    try:
        async with listening(work) as (steps, completion):
            async for step in steps:
                yield {"step": asdict(step)}
            yield {"completion": completion_to_json(await completion)}
    except Exception as error:
        yield error_event(refusal(error))


async def answer(
    state: EngineState,
    api: str,
    request: CompletionRequest | ChatRequest,
    on_text: TextListener | None = None,
    *,
    on_trace: TraceListener | None = None,
    latest_wins: bool = True,
) -> Completion:
    """Run the model on a request of any API. Raises HttpError while no model is loaded."""
    check_loaded(state)
    began = time.perf_counter()
    completion = await state.backend.stream(
        request, on_text, on_trace=on_trace, latest_wins=latest_wins
    )
    state.metrics.answered(api, time.perf_counter() - began, completion)
    return completion


def _check_adapter(http: Request, adapter: str) -> None:
    """Raise HttpError for an adapter on a port that other users of the machine can use: it may hold
    the code that it was trained on, and its name can be guessed."""
    if adapter and is_for_everyone(http.scope):
        raise HttpError(
            403,
            "'adapter' is not served on a port without a key, which every user of this machine can "
            "use: start the engine with FIM_ENGINE_API_KEY, or leave 'adapter' out",
            "forbidden",
        )


def check_loaded(state: EngineState) -> None:
    """Raise HttpError while no model is loaded."""
    if state.status != "ok":
        raise HttpError(503, state.problem or "the model is being loaded", "backend_error")
