"""The engine process: its lock, its socket, and its exit when idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout

from fim_server.backends.in_process import InProcessBackend
from fim_server.engine.allocator import return_large_buffers
from fim_server.engine.http_app import build_app
from fim_server.engine.launch import ALREADY_RUNNING
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

_MAX_CONNECTIONS = 512
_KEEP_ALIVE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of the engine process.

    `port` None serves on the user's Unix socket, a number on 127.0.0.1 (0: any free port).
    `idle_minutes` without a request end the process (None: never). `cache_bytes` limits the KV of
    all sessions together. Up to `at_once` requests of different sessions share their forwards.
    """

    model: str | None = None
    threads: int | None = None
    idle_minutes: float | None = None
    cache_bytes: int | None = None
    port: int | None = None
    at_once: int = AT_ONCE


def run_engine(options: EngineOptions, announce: Callable[[str], None]) -> int:
    """Serve until idle or interrupted, and return the exit code. Raises EngineStartError.

    `announce` is given one line when the model is loaded, or why it could not be loaded. By then
    the address is bound, and requests have been accepted while the model was loading.
    """
    paths = engine_paths(options.model)
    make_private_folder(paths.socket.parent)
    if options.port is not None:
        token = read_or_make_token(paths.token)
        with loopback_listener(options.port) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}, token in {paths.token}"
            return asyncio.run(_serve(options, listener, token, announce, address))
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
        with unix_listener(paths) as listener:
            return asyncio.run(_serve(options, listener, None, announce, str(paths.socket)))
    finally:
        lock.release()


async def _serve(
    options: EngineOptions,
    listener: socket.socket,
    token: str | None,
    announce: Callable[[str], None],
    address: str,
) -> int:
    return_large_buffers()
    backend = InProcessBackend(options.model, options.threads, options.cache_bytes, options.at_once)
    metrics = Metrics(backend)
    state = EngineState(backend, model_name(options.model), metrics)
    config = uvicorn.Config(
        build_app(state, token),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    server = uvicorn.Server(config)
    idle_exit = asyncio.create_task(_exit_when_idle(server, state, options.idle_minutes))
    announcing = asyncio.create_task(_announce(state, announce, address))
    await server.serve(sockets=[listener])
    idle_exit.cancel()
    announcing.cancel()
    return 2 if state.status == "failed" else 0


async def _announce(state: EngineState, announce: Callable[[str], None], address: str) -> None:
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


def read_or_make_token(path: Path) -> str:
    """The bearer token for clients of the TCP port, kept in a file that only the user can read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as problem:
        raise EngineStartError(f"{path}: cannot be created ({problem.strerror})") from None
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    return token


def _read_token(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise EngineStartError(
            f"{path}: cannot be read; delete it, and a new one will be created"
        ) from None
    if mode & 0o077:
        raise EngineStartError(
            f"{path}: other users may read it; delete it, and a new one will be created"
        )
    if not token:
        raise EngineStartError(f"{path}: is empty; delete it, and a new one will be created")
    return token
