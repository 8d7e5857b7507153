"""`fim-server doctor`'s checks of the backend: the user's engine or the remote server.

Only the configured backend is checked. Nothing is started, and no code is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fim_server.backends.base import BackendError
from fim_server.backends.connections import socket_client
from fim_server.backends.remote import RemoteServer
from fim_server.commands.findings import Finding
from fim_server.engine.client import EngineBackend
from fim_server.engine.paths import EngineStartError, check_private_folder, check_socket_path
from fim_server.engine.wire import PROTOCOL
from fim_server.settings.settings import Settings

TIMEOUT_SECONDS = 3.0
REFUSES = " refuses the key: "
"""In the messages of `backends/remote.py`."""


def engine(settings: Settings) -> Iterator[Finding]:
    """Check the engine's socket, and the engine behind it if one runs."""
    if settings.backend != "engine":
        return
    if not hasattr(socket, "AF_UNIX"):
        fix = "set backend to in_process"
        yield Finding("engine", "fail", "this system does not support Unix sockets", fix)
        return
    path = EngineBackend(settings.model).paths.socket
    try:
        check_socket_path(path)
        if path.parent.exists():
            check_private_folder(path.parent)
        elif not os.access(above := _existing(path.parent), os.W_OK):
            raise EngineStartError(
                f"{path.parent}: cannot be created in {above}; set XDG_RUNTIME_DIR"
            )
    except EngineStartError as problem:
        what, _, fix = str(problem).rpartition("; ")
        yield Finding("engine", "fail", what, fix)
        return
    yield _socket(path)


def _socket(path: Path) -> Finding:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Finding("engine", "ok", f"not running; the next request starts it on {path}")
    except OSError as problem:
        fix = f"make {path.parent} readable"
        return Finding("engine", "fail", f"{path}: {problem.strerror}", fix)
    if not stat.S_ISSOCK(status.st_mode):
        return Finding("engine", "fail", f"{path}: is not a socket", f"remove {path}")
    if status.st_uid != os.getuid():
        message = f"{path}: belongs to user {status.st_uid}"
        return Finding("engine", "fail", message, f"have user {status.st_uid} remove it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        message = f"{path}: other users may connect to it"
        return Finding("engine", "fail", message, f"chmod 600 {path}")
    return _health(path)


def _health(path: Path) -> Finding:
    """Check the answer of the engine behind the socket to GET /health."""
    import httpx2

    try:
        with socket_client(str(path), TIMEOUT_SECONDS) as client:
            body: Any = client.get("/health").json()
    except httpx2.ConnectError:
        message = f"{path} is left over from a stopped engine; the next request replaces it"
        return Finding("engine", "ok", message)
    except (httpx2.TransportError, ValueError) as problem:
        message = f"{path}: the listening process does not answer ({type(problem).__name__})"
        return Finding("engine", "fail", message, f"end the process that `fuser {path}` names")
    body = body if isinstance(body, dict) else {}
    pid, status = body.get("pid"), body.get("status")
    own = version("fim-server")
    if body.get("protocol") != PROTOCOL or body.get("version") != own:
        message = f"the engine (process {pid}) is version {body.get('version')}, this is {own}"
        return Finding("engine", "fail", message, f"kill {pid}")
    if status == "failed":
        message = f"the engine (process {pid}) failed to load its model: {body.get('problem')}"
        return Finding("engine", "fail", message, "correct the setting model")
    state = "" if status == "ok" else f", {status}"
    message = f"process {pid}, version {own}{state}, on {path}"
    if isinstance(refused := body.get("refused"), dict):
        message += (
            f"; on its port {refused.get('count')} requests were refused, the last one "
            f"{refused.get('seconds_ago')} s ago: {refused.get('problem')}"
        )
        fix = "give the client what `fim-server engine --print-config CLIENT` prints"
        return Finding("engine", "warn", message, fix)
    return Finding("engine", "ok", message)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def remote(settings: Settings) -> Iterator[Finding]:
    """Check that the configured server answers and offers the configured model."""
    if settings.backend not in ("openai", "llama_cpp"):
        return
    if settings.remote_url is None:
        message = f"the backend {settings.backend} has no server address"
        yield Finding("remote", "fail", message, "set remoteUrl, for example http://host:port/v1")
        return
    try:
        yield asyncio.run(_ask(settings, RemoteServer(settings.remote_url)))
    except BackendError as problem:
        fix = "start the server, or correct remoteUrl: the part of the address before /completions"
        yield Finding("remote", "fail", *_message_and_fix(str(problem), fix))


async def _ask(settings: Settings, server: RemoteServer) -> Finding:
    """The finding on the server's health and models. Raises BackendError if it does not answer."""
    try:
        if settings.backend == "llama_cpp":
            await server.get("/health")
            await _check_key(server)
            return Finding("remote", "ok", f"{server.name} answers")
        answer = await server.get("/models")
    finally:
        await server.close()
    try:
        models = [str(model["id"]) for model in answer["data"]]
    except (KeyError, TypeError):
        models = []
    wanted = settings.remote_model
    if not models:
        fix = "check the server's configuration" if wanted else "set remoteModel"
        return Finding("remote", "warn", f"{server.name} lists no models", fix)
    if wanted is not None and wanted not in models:
        what = f"{server.name} does not offer the model {wanted}, only {', '.join(models[:5])}"
        return Finding("remote", "warn", what, f"set remoteModel to {models[0]}")
    return Finding("remote", "ok", f"{server.name} serves {wanted or models[0]}")


async def _check_key(server: RemoteServer) -> None:
    """Raise BackendError if the server refuses the key: /health is public, /props is not.

    Older servers have no /props.
    """
    try:
        await server.get("/props")
    except BackendError as problem:
        if REFUSES in str(problem):
            raise


def _message_and_fix(problem: str, fix: str) -> tuple[str, str]:
    """Split a message that contains its own fix; otherwise pair it with `fix`."""
    what, mark, own_fix = problem.partition(REFUSES)
    return (f"{what} refuses the key", own_fix) if mark else (problem, fix)
