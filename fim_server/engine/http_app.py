"""The engine's HTTP application: routes, authentication, error responses."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fim_server.engine import chat_api, llama_cpp_api, native_api, openai_api
from fim_server.engine.bodies import HttpError, refusal
from fim_server.engine.state import EngineState
from fim_server.engine.wire import PROTOCOL

Endpoint = Callable[[EngineState, Request], Awaitable[Response]]


def build_app(state: EngineState, token: str | None = None) -> Starlette | BearerToken:
    """The application that serves `state`; with `token`, every request must carry it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(state.load())
        yield
        loading.cancel()
        await state.backend.close()

    app = Starlette(
        routes=[
            Route("/health", _quick(state, health), methods=["GET"]),
            Route("/metrics", _quick(state, metrics), methods=["GET"]),
            Route("/v1/models", _quick(state, models), methods=["GET"]),
            Route("/v1/fim", _answering(state, "native", native_api.fim), methods=["POST"]),
            Route(
                "/v1/rewrite", _answering(state, "rewrite", native_api.rewrite), methods=["POST"]
            ),
            Route(
                "/v1/instruct",
                _answering(state, "instruct", native_api.instruct),
                methods=["POST"],
            ),
            Route("/v1/forget", _answering(state, "forget", native_api.forget), methods=["POST"]),
            Route(
                "/v1/completions",
                _answering(state, "openai", openai_api.completions),
                methods=["POST"],
            ),
            Route(
                "/v1/fim/completions",
                _answering(state, "openai", openai_api.fim_completions),
                methods=["POST"],
            ),
            Route(
                "/v1/chat/completions",
                _answering(state, "chat", chat_api.chat_completions),
                methods=["POST"],
            ),
            Route(
                "/completion",
                _answering(state, "llama_cpp", llama_cpp_api.completion),
                methods=["POST"],
            ),
            Route(
                "/infill", _answering(state, "llama_cpp", llama_cpp_api.infill), methods=["POST"]
            ),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    return app if token is None else BearerToken(app, token)


async def health(state: EngineState, request: Request) -> Response:
    """Status and loading progress of the engine; 503 only if it cannot serve at all."""
    body = {
        "status": state.status,
        "version": version("fim-server"),
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "model": state.model,
        "doing": state.doing,
        "share": state.share,
        "problem": state.problem,
    }
    return JSONResponse(body, 503 if state.status == "failed" else 200)


async def models(state: EngineState, request: Request) -> Response:
    model = {"id": state.model, "object": "model", "created": 0, "owned_by": "fim-server"}
    return JSONResponse({"object": "list", "data": [model]})


async def metrics(state: EngineState, request: Request) -> Response:
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4")


def _quick(state: EngineState, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def call(request: Request) -> Response:
        return await endpoint(state, request)

    return call


def _answering(
    state: EngineState, api: str, endpoint: Endpoint
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that counts as activity and turns every exception into an error response."""

    async def call(request: Request) -> Response:
        began = time.perf_counter()
        state.active += 1
        try:
            return await endpoint(state, request)
        except ClientDisconnect:
            state.metrics.failed(api, time.perf_counter() - began, "disconnected")
            return Response(status_code=499)
        except Exception as error:
            answer = refusal(error)
            state.metrics.failed(api, time.perf_counter() - began, f"error_{answer.status}")
            return answer.response()
        finally:
            state.active -= 1
            state.touch()

    return call


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return HttpError(error.status_code, message).response()


class BearerToken:
    """Middleware that answers 401 to requests without the bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._allowed(scope):
            refusal = HttpError(
                401, "missing or wrong bearer token: see `fim-server engine --help`"
            )
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._expected)
