"""The engine process: its lock, its socket, and its exit when idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout

from fim_server.backends.in_process import InProcessBackend
from fim_server.engine.allocator import return_large_buffers
from fim_server.engine.http_app import build_app, build_port_app
from fim_server.engine.launch import ALREADY_RUNNING
from fim_server.engine.loopback import (
    check_key,
    loopback_listener,
    server_config,
    serving,
)
from fim_server.engine.paths import (
    EnginePaths,
    EngineStartError,
    check_socket_path,
    engine_paths,
    make_private_folder,
)
from fim_server.engine.prometheus import Metrics
from fim_server.engine.state import EngineState, model_name

LOCK_SECONDS = 3.0
"""How long to wait for the lock of an engine that is just exiting."""

AFTER_FAILURE_SECONDS = 5.0
"""How long an engine that failed to load its model keeps reporting the failure before it exits."""

AT_ONCE = 4
"""Maximum number of requests processed concurrently; `network/batching.py` says why no more."""

EVICT_AFTER_SECONDS = 900.0
"""Sessions idle for longer are evicted: their editor may have died."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of the engine process.

    The engine serves on the user's Unix socket, with `port` on 127.0.0.1 as well (0: any free one),
    where clients must send `key`, unless that is "". `idle_minutes` without a request end the
    process (None: never). `cache_bytes` limits the KV of all sessions together. Up to `at_once`
    requests of different sessions share their forwards. `suggestions` counts what editors showed,
    for the engine's page. `adapters` is the folder of what was learned from workspaces.
    """

    model: str | None = None
    threads: int | None = None
    idle_minutes: float | None = None
    cache_bytes: int | None = None
    port: int | None = None
    key: str = ""
    at_once: int = AT_ONCE
    suggestions: Callable[[], Mapping[str, int]] | None = None
    adapters: Path | None = None


def run_engine(options: EngineOptions, announce: Callable[[str], None]) -> int:
    """Serve until idle or interrupted, and return the exit code.

    ALREADY_RUNNING if another engine serves this model. `announce` is given one line when the model
    is loaded, or why it could not be loaded. By then the addresses are bound, and requests have
    been accepted while the model was loading. Raises EngineStartError.
    """
    check_key(options.key)
    paths = engine_paths(options.model)
    make_private_folder(paths.socket.parent)
    check_socket_path(paths.socket)
    lock = FileLock(paths.lock, timeout=LOCK_SECONDS, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        return ALREADY_RUNNING
    except OSError as problem:
        raise EngineStartError(
            f"{paths.lock}: cannot be locked ({problem.strerror}); make it and its folder writable"
        ) from None
    try:
        with contextlib.ExitStack() as listeners:
            socket_listener = listeners.enter_context(unix_listener(paths))
            port_listener, address = None, str(paths.socket)
            if options.port is not None:
                port_listener = listeners.enter_context(loopback_listener(options.port))
                port = port_listener.getsockname()[1]
                address += f" and http://127.0.0.1:{port}"
            say = partial(announce_loaded, announce=announce, address=address)
            return asyncio.run(_serve(options, socket_listener, port_listener, say))
    finally:
        lock.release()


async def _serve(
    options: EngineOptions,
    listener: socket.socket,
    port: socket.socket | None,
    say: Callable[[EngineState], Coroutine[None, None, None]],
) -> int:
    return_large_buffers()
    backend = InProcessBackend(
        options.model, options.threads, options.cache_bytes, options.at_once, options.adapters
    )
    metrics = Metrics(backend)
    state = EngineState(backend, model_name(options.model), metrics)
    state.suggestions = options.suggestions
    server = uvicorn.Server(server_config(build_app(state), with_lifespan=True))
    idle_exit = asyncio.create_task(_exit_when_idle(server, state, options.idle_minutes))
    announcing = asyncio.create_task(say(state))
    async with contextlib.AsyncExitStack() as ports:
        if port is not None:
            state.ports[port.getsockname()[1]] = options.key
            await ports.enter_async_context(serving(build_port_app(state, options.key), port))
        await server.serve(sockets=[listener])
    idle_exit.cancel()
    announcing.cancel()
    return 2 if state.status == "failed" else 0


async def announce_loaded(
    state: EngineState, announce: Callable[[str], None], address: str
) -> None:
    """Say when the model is loaded, or why it could not be loaded."""
    await state.loaded.wait()
    failed = state.status == "failed"
    announce(state.problem if failed else f"serving the model {state.model} on {address}")


async def _exit_when_idle(
    server: uvicorn.Server, state: EngineState, idle_minutes: float | None
) -> None:
    while True:
        limit = AFTER_FAILURE_SECONDS if state.status == "failed" else None
        if limit is None and idle_minutes is not None:
            limit = 60 * idle_minutes
        if limit is not None and state.idle_seconds >= limit:
            server.should_exit = True
            return
        state.backend.forget_unused(EVICT_AFTER_SECONDS)
        await asyncio.sleep(0.2 if limit is None else min(1.0, max(0.05, limit / 10)))


@contextlib.contextmanager
def unix_listener(paths: EnginePaths) -> Iterator[socket.socket]:
    """A listening socket that only the user may connect to.

    The caller must hold the lock: an existing socket is then a leftover, and is replaced.
    """
    try:
        paths.socket.unlink(missing_ok=True)
    except OSError as problem:
        raise EngineStartError(
            f"{paths.socket}: cannot be replaced by the engine's socket ({problem.strerror}); "
            "remove it"
        ) from None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        old = os.umask(0o177)
        try:
            listener.bind(str(paths.socket))
        except OSError as problem:
            raise EngineStartError(
                f"{paths.socket}: cannot be created ({problem.strerror})"
            ) from None
        finally:
            os.umask(old)
        listener.listen(128)
        try:
            yield listener
        finally:
            paths.socket.unlink(missing_ok=True)
