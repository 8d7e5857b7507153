"""The checks of `fim-server doctor` on who computes: this user's engine, or a remote server.

Only what the settings ask for is looked at; nothing is started and no code is sent.
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
from fim_server.backends.remote import RemoteServer
from fim_server.commands.findings import Finding
from fim_server.engine.client import EngineBackend
from fim_server.engine.paths import EngineStartError, check_private_folder, check_socket_path
from fim_server.engine.wire import PROTOCOL
from fim_server.settings.settings import Settings

ANSWER_SECONDS = 3.0


def engine(settings: Settings) -> Iterator[Finding]:
    """The engine's place, and the engine itself if one is there."""
    if settings.backend != "engine":
        return
    if not hasattr(socket, "AF_UNIX"):
        fix = "set backend to in_process"
        yield Finding("engine", "fail", "this system has no Unix sockets", fix)
        return
    path = EngineBackend(settings.model).paths.socket
    try:
        check_socket_path(path)
        if path.parent.exists():
            check_private_folder(path.parent)
        elif not os.access(above := _existing(path.parent), os.W_OK):
            raise EngineStartError(f"{path.parent}: cannot be made in {above}; set XDG_RUNTIME_DIR")
    except EngineStartError as problem:
        what, _, fix = str(problem).rpartition("; ")
        yield Finding("engine", "fail", what, fix)
        return
    yield _socket(path)


def _socket(path: Path) -> Finding:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Finding("engine", "ok", f"none runs now; the next request starts it on {path}")
    except OSError as problem:
        fix = f"make {path.parent} readable"
        return Finding("engine", "fail", f"{path}: {problem.strerror}", fix)
    if not stat.S_ISSOCK(status.st_mode):
        return Finding("engine", "fail", f"{path}: is no socket", f"remove {path}")
    if status.st_uid != os.getuid():
        message = f"{path}: belongs to user {status.st_uid}"
        return Finding("engine", "fail", message, f"have user {status.st_uid} remove it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        message = f"{path}: other users may connect to it"
        return Finding("engine", "fail", message, f"chmod 600 {path}")
    return _health(path)


def _health(path: Path) -> Finding:
    """What the engine behind the socket says of itself."""
    import httpx2

    transport = httpx2.HTTPTransport(uds=str(path))
    try:
        with httpx2.Client(transport=transport, timeout=ANSWER_SECONDS) as client:
            body: Any = client.get("http://engine/health").json()
    except httpx2.ConnectError:
        left = f"{path} was left by an engine that ended; the next request replaces it"
        return Finding("engine", "ok", left)
    except (httpx2.TransportError, ValueError) as problem:
        message = f"{path}: whoever listens does not answer ({type(problem).__name__})"
        return Finding("engine", "fail", message, f"end the process that `fuser {path}` names")
    body = body if isinstance(body, dict) else {}
    pid, status = body.get("pid"), body.get("status")
    own = version("fim-server")
    if body.get("protocol") != PROTOCOL or body.get("version") != own:
        message = f"the engine (process {pid}) is version {body.get('version')}, this is {own}"
        return Finding("engine", "fail", message, f"kill {pid}")
    if status == "failed":
        message = f"the engine (process {pid}) has no model: {body.get('problem')}"
        return Finding("engine", "fail", message, "correct the setting model")
    doing = "" if status == "ok" else f", {status}"
    return Finding("engine", "ok", f"process {pid}, version {own}{doing}, on {path}")


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())


def remote(settings: Settings) -> Iterator[Finding]:
    """Whether the configured server answers, and has the configured model."""
    if settings.backend not in ("openai", "llama_cpp"):
        return
    if settings.remote_url is None:
        message = f"the backend {settings.backend} has no server"
        yield Finding("remote", "fail", message, "set remoteUrl, as http://host:port/v1")
        return
    try:
        yield asyncio.run(_ask(settings, RemoteServer(settings.remote_url)))
    except BackendError as problem:
        fix = "start that server, or correct remoteUrl; its address is the part before /completions"
        yield Finding("remote", "fail", *_told(str(problem), fix))


async def _ask(settings: Settings, server: RemoteServer) -> Finding:
    """Raises BackendError."""
    try:
        if settings.backend == "llama_cpp":
            await server.get("/health")
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
        what = f"{server.name} names no model"
        return Finding(
            "remote", "warn", what, "set remoteModel" if not wanted else "ask who runs it"
        )
    if wanted is not None and wanted not in models:
        what = f"{server.name} does not name the model {wanted}, only {', '.join(models[:5])}"
        return Finding("remote", "warn", what, f"set remoteModel to {models[0]}")
    return Finding("remote", "ok", f"{server.name} serves {wanted or models[0]}")


def _told(problem: str, fix: str) -> tuple[str, str]:
    """A message that names its own way out is split there."""
    what, mark, way_out = problem.partition(" refuses the key: ")
    return (f"{what} refuses the key", way_out) if mark else (problem, fix)
