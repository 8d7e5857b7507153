"""The engine's HTTP application: routes, authentication, error responses."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
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

from fim_server.engine import chat_api, llama_cpp_api, loopback, native_api, openai_api
from fim_server.engine.bodies import HttpError, refusal
from fim_server.engine.state import EngineState
from fim_server.engine.wire import PROTOCOL

logger = logging.getLogger(__name__)

LOG_REFUSALS_SECONDS = 60.0
"""Minimum interval between log lines about requests without the bearer token."""

Endpoint = Callable[[EngineState, Request], Awaitable[Response]]


def build_app(state: EngineState) -> Starlette:
    """The application on the user's socket, which loads the model and may open ports."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(state.load())
        yield
        loading.cancel()
        await state.backend.close()

    async def listen(state: EngineState, http: Request) -> Response:
        return await loopback.listen(state, http, lambda token: build_port_app(state, token))

    opening = Route("/v1/listen", _answering(state, "listen", listen), methods=["POST"])
    return Starlette(
        routes=[*_routes(state), opening],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


def build_port_app(state: EngineState, token: str) -> BearerToken:
    """The application on a port: every request must carry `token`."""
    app = Starlette(routes=_routes(state), exception_handlers={HTTPException: _http_error})
    return BearerToken(app, token)


def _routes(state: EngineState) -> list[Route]:
    posts = {
        "/v1/fim": ("native", native_api.fim),
        "/v1/rewrite": ("rewrite", native_api.rewrite),
        "/v1/instruct": ("instruct", native_api.instruct),
        "/v1/forget": ("forget", native_api.forget),
        "/v1/completions": ("openai", openai_api.completions),
        "/v1/fim/completions": ("openai", openai_api.fim_completions),
        "/v1/chat/completions": ("chat", chat_api.chat_completions),
        "/completion": ("llama_cpp", llama_cpp_api.completion),
        "/infill": ("llama_cpp", llama_cpp_api.infill),
    }
    return [
        Route("/health", _quick(state, health), methods=["GET"]),
        Route("/metrics", _quick(state, metrics), methods=["GET"]),
        Route("/v1/models", _quick(state, models), methods=["GET"]),
        *(
            Route(path, _answering(state, api, handler), methods=["POST"])
            for path, (api, handler) in posts.items()
        ),
    ]


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
        self._refused = 0
        self._next_log = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._allowed(scope):
            given = any(name == b"authorization" for name, _ in scope["headers"])
            problem = "the bearer token is wrong" if given else "the bearer token is missing"
            self._log_refusal(problem)
            refusal = HttpError(
                401,
                f"{problem}: clients must send the one in the file that `fim-server engine --tcp` "
                "names at its start",
            )
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _log_refusal(self, problem: str) -> None:
        """Log refused requests, at most one a minute."""
        now = time.monotonic()
        self._refused += 1
        if now >= self._next_log:
            logger.warning("%d requests refused with status 401: %s", self._refused, problem)
            self._refused, self._next_log = 0, now + LOG_REFUSALS_SECONDS

    def _allowed(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._expected)
