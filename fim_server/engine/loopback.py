"""A port of 127.0.0.1 beside the engine's socket: the same process and model, for other clients.

`fim-server engine --tcp` either becomes the engine and opens the port, or has the running engine
open it: one model in memory in both cases. The running engine keeps the port open as long as the
request for it is connected, that is, as long as the command runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fim_server.backends.connections import socket_client
from fim_server.engine.bodies import HttpError, read_json
from fim_server.engine.paths import EnginePaths, EngineStartError
from fim_server.engine.state import EngineState
from fim_server.engine.wire import check_type

MAX_CONNECTIONS = 512
KEEP_ALIVE_SECONDS = 60
MAX_PORT = 65535

Secured = Callable[[str], ASGIApp]
"""The application for a port, which asks for a key, unless that is ""."""


def server_config(app: ASGIApp, *, with_lifespan: bool) -> uvicorn.Config:
    """The configuration of the socket's server, and of a port's, whose model is loaded already."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        ws="none",
        lifespan="on" if with_lifespan else "off",
    )


class _PortServer(uvicorn.Server):
    """Leaves the signals to the socket's server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on a listening socket while inside."""
    server = _PortServer(server_config(app, with_lifespan=False))
    work = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await work


async def listen(state: EngineState, http: Request, secured: Secured) -> Response:
    """`POST /v1/listen {port, key}`: serve the port while this request is connected."""
    body = await read_json(http)
    values = body if isinstance(body, dict) else {}
    port, key = values.get("port"), values.get("key", "")
    check_type("port", port, int)
    check_type("key", key, str)
    if not isinstance(port, int) or not 0 <= port <= MAX_PORT:
        raise HttpError(400, f"'port' must be 0 to {MAX_PORT}, not {port}")
    try:
        check_key(key)
        listener = contextlib.ExitStack()
        opened = listener.enter_context(loopback_listener(port))
    except EngineStartError as problem:
        raise HttpError(409, str(problem)) from None
    return _OpenPort(state, secured(key), key, opened, listener)


async def ports(state: EngineState, http: Request) -> Response:
    """`GET /v1/listen`: the open ports and their keys. On the user's own socket alone."""
    found = [{"port": port, "key": key} for port, key in state.ports.items()]
    return JSONResponse({"ports": found, "model": state.model})


class _OpenPort(Response):
    """Sends one line of JSON, `{"port", "pid"}`, and serves the port until the client leaves."""

    def __init__(
        self,
        state: EngineState,
        app: ASGIApp,
        key: str,
        listener: socket.socket,
        closing: contextlib.ExitStack,
    ) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._state, self._app, self._key = state, app, key
        self._listener, self._closing = listener, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state.active += 1  # an open port keeps the engine from exiting
        port = self._listener.getsockname()[1]
        try:
            async with serving(self._app, self._listener):
                self._state.ports[port] = self._key
                told = {"port": port, "pid": os.getpid()}
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(start)
                line = json.dumps(told).encode() + b"\n"
                await send({"type": "http.response.body", "body": line, "more_body": True})
                while (await receive())["type"] != "http.disconnect":
                    pass
        finally:
            self._state.ports.pop(port, None)
            self._closing.close()
            self._state.active -= 1
            self._state.touch()


def hold_port(paths: EnginePaths, port: int, key: str, opened: Callable[[int, int], None]) -> None:
    """Have the running engine serve a port until it ends, or this process does.

    `opened` is called with the port and the engine's process id. Raises EngineStartError if the
    engine cannot open the port.
    """
    with socket_client(str(paths.socket), timeout=None) as client:
        try:
            with client.stream("POST", "/v1/listen", json={"port": port, "key": key}) as answer:
                if answer.status_code == 404:
                    raise EngineStartError(
                        "the running engine is older and cannot open a port; end its process, "
                        "which fim-server doctor names"
                    )
                if answer.status_code != 200:
                    raise EngineStartError(_message(answer.read()))
                for line in answer.iter_lines():
                    told = json.loads(line)
                    opened(told["port"], told["pid"])
        except httpx2.TransportError:
            return  # the engine has ended


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the running engine could not open the port; its log says why"


@contextlib.contextmanager
def loopback_listener(port: int) -> Iterator[socket.socket]:
    """A listening socket on 127.0.0.1. Raises EngineStartError if the port is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as problem:
            raise EngineStartError(
                f"port {port}: cannot be used ({problem.strerror}); choose another one"
            ) from None
        listener.listen(128)
        yield listener


def check_key(key: str) -> None:
    """Raise EngineStartError for a key that cannot be sent in a header. "" is no key."""
    if key and not re.fullmatch(r"[!-~]+", key):
        raise EngineStartError(
            "the API key must be of printable ASCII characters without spaces; choose another one"
        )


def open_ports(paths: EnginePaths) -> dict[str, Any] | None:
    """The answer of the running engine to `GET /v1/listen`, None if none runs or it is older."""
    with socket_client(str(paths.socket), timeout=5.0) as client:
        try:
            answer = client.get("/v1/listen")
            body = answer.json() if answer.status_code == 200 else None
        except (httpx2.TransportError, ValueError):
            return None
    return body if isinstance(body, dict) else None
