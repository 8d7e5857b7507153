"""The engine's HTTP application: routes and error responses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fim_server.engine import (
    chat_api,
    llama_cpp_api,
    loopback,
    model_info,
    native_api,
    openai_api,
    token_api,
    web_page,
)
from fim_server.engine.bodies import HttpError, refusal
from fim_server.engine.port_guard import PortGuard
from fim_server.engine.state import EngineState

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
        return await loopback.listen(state, http, lambda key: build_port_app(state, key))

    opening = Route("/v1/listen", _answering(state, "listen", listen), methods=["POST"])
    opened = Route("/v1/listen", _quick(state, loopback.ports), methods=["GET"])
    return Starlette(
        routes=[*_routes(state), opened, opening],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


def build_port_app(state: EngineState, key: str) -> PortGuard:
    """The application on a port, for programs of this machine that send `key`, if it is not ""."""
    app = Starlette(routes=_routes(state), exception_handlers={HTTPException: _http_error})
    return PortGuard(app, key, state.refusals)


def _routes(state: EngineState) -> list[Route]:
    gets = {
        "/": web_page.page,
        "/health": model_info.health,
        "/v1/health": model_info.health,
        "/metrics": metrics,
        "/v1/models": model_info.models,
        "/v1/models/{name:path}": model_info.model,
        "/v1/status": model_info.status,
        "/props": model_info.props,
        "/slots": model_info.slots,
    }
    posts = {
        "/v1/fim": ("native", native_api.fim),
        "/v1/rewrite": ("rewrite", native_api.rewrite),
        "/v1/instruct": ("instruct", native_api.instruct),
        "/v1/instruct/check": ("instruct", native_api.instruct_check),
        "/v1/forget": ("forget", native_api.forget),
        "/v1/completions": ("openai", openai_api.completions),
        "/v1/fim/completions": ("openai", openai_api.fim_completions),
        "/v1/chat/completions": ("chat", chat_api.chat_completions),
        "/completion": ("llama_cpp", llama_cpp_api.completion),
        "/infill": ("llama_cpp", llama_cpp_api.infill),
        "/tokenize": ("tokens", token_api.tokenize),
        "/detokenize": ("tokens", token_api.detokenize),
        "/apply-template": ("tokens", token_api.apply_template),
    }
    return [
        *(Route(path, _quick(state, handler), methods=["GET"]) for path, handler in gets.items()),
        *(
            Route(path, _answering(state, api, handler), methods=["POST"])
            for path, (api, handler) in posts.items()
        ),
    ]


async def metrics(state: EngineState, request: Request) -> Response:
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4")


def _quick(state: EngineState, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that needs no model, and does not keep an idle engine alive."""

    async def call(request: Request) -> Response:
        try:
            return await endpoint(state, request)
        except Exception as error:
            return refusal(error).response()

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
