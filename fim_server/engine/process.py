"""The engine's process: one lock, one socket, and an end when nobody wants it any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout

from fim_server.backends.in_process import InProcessBackend
from fim_server.engine.allocator import return_large_buffers
from fim_server.engine.http_app import build_app
from fim_server.engine.launch import ALREADY_RUNNING
from fim_server.engine.place import (
    EnginePlace,
    PlaceError,
    check_socket_path,
    engine_place,
    make_private_folder,
)
from fim_server.engine.prometheus import Metrics
from fim_server.engine.state import EngineState, model_name

LOCK_SECONDS = 3.0
"""How long an engine that is leaving may hold its lock."""

AFTER_FAILURE_SECONDS = 5.0
"""How long an engine whose model cannot be loaded stays to say so."""

AT_ONCE = 4
"""Requests that are worked on side by side; see `network/batching.py` for why not many more."""

FORGET_AFTER_SECONDS = 900.0
"""Keys of a document that nobody asked about for so long are freed: its editor may have died."""

_MOST_CONNECTIONS = 512
_KEEP_ALIVE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """`port` None serves on the user's socket, a number on 127.0.0.1 (0: any free port).

    `idle_minutes` without a request end the process; None never does. `at_once` requests of
    different sessions share their forwards.
    """

    model: str | None = None
    threads: int | None = None
    idle_minutes: float | None = None
    cache_bytes: int | None = None
    port: int | None = None
    at_once: int = AT_ONCE


def run_engine(options: EngineOptions) -> int:
    """Serve until idle or told to stop; the exit code. Raises PlaceError."""
    place = engine_place(options.model)
    make_private_folder(place.socket.parent)
    if options.port is not None:
        token = read_or_make_token(place.token)
        with loopback_listener(options.port) as listener:
            return asyncio.run(_serve(options, listener, token))
    check_socket_path(place.socket)
    lock = FileLock(place.lock, timeout=LOCK_SECONDS, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        return ALREADY_RUNNING
    except OSError as problem:
        raise PlaceError(
            f"{place.lock}: cannot be locked ({problem.strerror}); make it and its folder writable"
        ) from None
    try:
        with unix_listener(place) as listener:
            return asyncio.run(_serve(options, listener, None))
    finally:
        lock.release()


async def _serve(options: EngineOptions, listener: socket.socket, token: str | None) -> int:
    return_large_buffers()
    backend = InProcessBackend(options.model, options.threads, options.cache_bytes, options.at_once)
    metrics = Metrics(backend)
    state = EngineState(backend, model_name(options.model), metrics)
    config = uvicorn.Config(
        build_app(state, token),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    server = uvicorn.Server(config)
    leaving = asyncio.create_task(_leave_when_idle(server, state, options.idle_minutes))
    await server.serve(sockets=[listener])
    leaving.cancel()
    return 2 if state.status == "failed" else 0


async def _leave_when_idle(
    server: uvicorn.Server, state: EngineState, idle_minutes: float | None
) -> None:
    while True:
        limit = AFTER_FAILURE_SECONDS if state.status == "failed" else None
        if limit is None and idle_minutes is not None:
            limit = 60 * idle_minutes
        if limit is not None and state.idle_seconds >= limit:
            server.should_exit = True
            return
        state.backend.forget_unused(FORGET_AFTER_SECONDS)
        await asyncio.sleep(0.2 if limit is None else min(1.0, max(0.05, limit / 10)))


@contextlib.contextmanager
def unix_listener(place: EnginePlace) -> Iterator[socket.socket]:
    """A listening socket that only the user may connect to. The caller holds the place's lock,
    so that a socket that is there already is nobody's."""
    try:
        place.socket.unlink(missing_ok=True)
    except OSError as problem:
        raise PlaceError(
            f"{place.socket}: is in the way of the socket ({problem.strerror}); remove it"
        ) from None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        old = os.umask(0o177)
        try:
            listener.bind(str(place.socket))
        except OSError as problem:
            raise PlaceError(f"{place.socket}: cannot be made ({problem.strerror})") from None
        finally:
            os.umask(old)
        listener.listen(128)
        try:
            yield listener
        finally:
            place.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def loopback_listener(port: int) -> Iterator[socket.socket]:
    """A listening socket on 127.0.0.1. Raises PlaceError where the port is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as problem:
            raise PlaceError(
                f"port {port}: cannot be used ({problem.strerror}); choose another one"
            ) from None
        listener.listen(128)
        yield listener


def read_or_make_token(path: Path) -> str:
    """The secret that clients on a TCP port must send; in a file that only the user can read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as problem:
        raise PlaceError(f"{path}: cannot be made ({problem.strerror})") from None
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    return token


def _read_token(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise PlaceError(f"{path}: cannot be read; delete it, a new one will be made") from None
    if mode & 0o077:
        raise PlaceError(f"{path}: other users may read it; delete it, a new one will be made")
    if not token:
        raise PlaceError(f"{path}: is empty; delete it, a new one will be made")
    return token
