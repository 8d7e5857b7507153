"""The backend that uses this machine's engine: finds or starts it, and restarts it if it dies.

Imports neither torch nor, before `start` is called, the HTTP client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from fim_model.requests import (
    ChatRequest,
    Completion,
    CompletionRequest,
    InstructionRequest,
    Rewrite,
    RewriteRequest,
)

from fim_server.backends.base import BackendError, Progress, TextListener, Unfit, Unsupported
from fim_server.backends.connections import json_content, socket_transport
from fim_server.engine.answer_stream import stream_answer
from fim_server.engine.launch import LaunchedEngine, engine_command, launch
from fim_server.engine.paths import (
    EnginePaths,
    EngineStartError,
    engine_paths,
    model_identity,
)
from fim_server.engine.wire import (
    PROTOCOL,
    WireError,
    completion_from_json,
    refusal_from_json,
    request_to_json,
    rewritten_from_json,
)

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

T = TypeVar("T")

START_SECONDS = 120.0
"""Timeout for an engine to load its model."""

LISTEN_SECONDS = 60.0
"""Timeout for a started engine to answer on its socket."""

ANSWER_SECONDS = 60.0
"""Timeout for one request."""

WRITING_SECONDS = 600.0
"""Timeout for what writes many tokens: an edit by instruction, an answer, the model's test."""

FORGET_SECONDS = 1.0
"""Timeout for telling the engine that a document or editor was closed."""

POLL_SECONDS = 0.05

STARTS_PER_MINUTE = 4
"""Maximum number of starts: an engine that keeps dying may be exhausting the machine's memory."""

DEFAULT_IDLE_MINUTES = 15.0


class EngineBackend:
    """Implements Backend by requests to the engine for `model` (None: the default model).

    `threads` and `idle_minutes`, after which the engine exits, apply only to an engine that this
    backend starts.
    """

    def __init__(
        self,
        model: str | None = None,
        threads: int | None = None,
        idle_minutes: float = DEFAULT_IDLE_MINUTES,
    ) -> None:
        model = model_identity(model)
        self._paths = engine_paths(model)
        self._command = engine_command(model, threads, idle_minutes)
        self._client: httpx2.AsyncClient | None = None
        # Two editors may have the same file open; for the engine these are two sessions.
        self._editor = secrets.token_hex(6)
        self._sessions: set[str] = set()
        self._ready = False
        self._readying: asyncio.Task[None] | None = None
        self._starts: list[float] = []
        self._progress: Progress = _discard

    @property
    def paths(self) -> EnginePaths:
        return self._paths

    async def start(self, progress: Progress) -> None:
        self._progress = progress
        try:
            await self._be_ready()
        finally:
            self._progress = _discard

    async def complete(self, request: CompletionRequest) -> Completion:
        return _read(completion_from_json, await self._ask("/v1/fim", request))

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        return _read(rewritten_from_json, await self._ask("/v1/rewrite", request))

    async def instruct(self, request: InstructionRequest) -> Rewrite | None:
        return _read(rewritten_from_json, await self._ask("/v1/instruct", request, WRITING_SECONDS))

    async def why_not_instruct(self) -> str | None:
        await self._be_ready()
        response = await self._post("/v1/instruct/check", {}, WRITING_SECONDS)
        return _read(refusal_from_json, response)

    async def answer(self, request: ChatRequest, on_text: TextListener) -> str:
        await self._be_ready()
        if self._client is None:
            raise BackendError("the connection to the engine is closed")
        return await stream_answer(self._client, request, on_text, WRITING_SECONDS)

    async def forget(self, session: str) -> None:
        """Free a session and its parts in the engine; no request for an unknown session."""
        closed = {
            name for name in self._sessions if name == session or name.startswith(f"{session}#")
        }
        if closed:
            self._sessions -= closed
            await self._forget(f"{self._editor}#{session}")

    async def metrics(self) -> dict[str, float]:
        """The engine's metrics by name, labels included. Raises BackendError."""
        import httpx2

        await self._be_ready()
        if self._client is None:
            raise BackendError("the connection to the engine is closed")
        try:
            lines = (await self._client.get("/metrics")).text.splitlines()
        except httpx2.TransportError as gone:
            raise BackendError("the engine does not answer") from gone
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def process(self) -> int:
        """The engine's process id. Raises BackendError."""
        await self._be_ready()
        health = None if self._client is None else await self._health(self._client)
        if health is None:
            raise BackendError("the engine does not answer")
        return int(health["pid"])

    async def close(self) -> None:
        if self._readying is not None:
            self._readying.cancel()
        if self._sessions:
            self._sessions.clear()
            await self._forget(self._editor)
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _of_this_editor(
        self, request: CompletionRequest | RewriteRequest | InstructionRequest
    ) -> CompletionRequest | RewriteRequest | InstructionRequest:
        """The request with its session name made unique to this editor."""
        if not request.session:
            return request
        self._sessions.add(request.session)
        return replace(request, session=f"{self._editor}#{request.session}")

    async def _forget(self, name: str) -> None:
        """Free a session in the engine, if an engine is running. Never raises."""
        import httpx2

        if self._client is None or not self._ready:
            return
        with contextlib.suppress(httpx2.HTTPError):
            content = json_content({"session": name})
            await self._client.post("/v1/forget", **content, timeout=FORGET_SECONDS)

    async def _ask(
        self,
        path: str,
        request: CompletionRequest | RewriteRequest | InstructionRequest,
        seconds: float = ANSWER_SECONDS,
    ) -> httpx2.Response:
        await self._be_ready()
        body = request_to_json(self._of_this_editor(request))
        try:
            return await self._post(path, body, seconds)
        except _NotSent:
            # The engine had exited before it got the request: retry once, with a new engine.
            await self._be_ready()
            return await self._post(path, body, seconds)

    async def _post(
        self, path: str, body: dict[str, Any], seconds: float = ANSWER_SECONDS
    ) -> httpx2.Response:
        import httpx2

        if self._client is None:
            raise BackendError("the connection to the engine is closed")
        try:
            return await self._client.post(path, **json_content(body), timeout=seconds)
        except httpx2.ConnectError as gone:
            self._lost()
            raise _NotSent("the engine does not answer") from gone
        except httpx2.TimeoutException as late:
            raise BackendError(f"the engine did not answer within {seconds:.0f} s") from late
        except httpx2.TransportError as broken:
            self._lost()
            raise BackendError(
                "the engine exited during the request; it is being restarted"
            ) from broken

    def _lost(self) -> None:
        """Replace the engine, which died, right away: it should be ready for the next keystroke."""
        self._ready = False
        self._start_readying()

    async def _be_ready(self) -> None:
        """Wait until an engine has loaded its model. Raises BackendError."""
        if not self._ready:
            await asyncio.shield(self._start_readying())

    def _start_readying(self) -> asyncio.Task[None]:
        if self._readying is None or self._readying.done():
            self._readying = asyncio.create_task(self._get_ready())
            # A failure may have no waiter, so it is marked as read; the next request retries.
            self._readying.add_done_callback(_read_exception)
        return self._readying

    async def _get_ready(self) -> None:
        import httpx2

        if self._client is None:
            # A new connection for each request is cheap on a Unix socket, and tells an engine that
            # has exited before from one that dies while serving the request.
            self._client = httpx2.AsyncClient(
                transport=socket_transport(str(self._paths.socket)),
                base_url="http://engine",
                timeout=ANSWER_SECONDS,
                trust_env=False,
            )
        self._progress("Looking for the engine", 0.0)
        engine: LaunchedEngine | None = None
        started = time.monotonic()
        silent_since = started
        while True:
            health = await self._health(self._client)
            now = time.monotonic()
            if health is None:
                if engine is not None and (failure := engine.failure()):
                    raise BackendError(failure)
                if engine is None or not engine.running:
                    engine = self._launch()
                if now - silent_since > LISTEN_SECONDS:
                    raise BackendError(
                        f"the engine does not answer on {self._paths.socket}; "
                        f"its log is {engine.log}"
                    )
            else:
                silent_since = now
                if self._is_ready(health):
                    self._ready = True
                    return
            if now - started > START_SECONDS:
                raise BackendError(
                    f"the engine did not load its model within {START_SECONDS:.0f} s; "
                    f"its log is {self._paths.log}"
                )
            await asyncio.sleep(POLL_SECONDS)

    def _is_ready(self, health: dict[str, Any]) -> bool:
        """Whether the engine has loaded its model. Raises BackendError if it cannot."""
        if health.get("protocol") != PROTOCOL:
            raise BackendError(
                f"the running engine is of another version (protocol {health.get('protocol')}, "
                f"expected {PROTOCOL}); stop its process {health.get('pid')}"
            )
        if health.get("status") == "failed":
            raise BackendError(str(health.get("problem")))
        self._progress(str(health.get("doing", "")), float(health.get("share", 0)))
        return health.get("status") == "ok"

    async def _health(self, client: httpx2.AsyncClient) -> dict[str, Any] | None:
        """The engine's health report; None if no engine answers."""
        import httpx2

        try:
            body = (await client.get("/health", timeout=5.0)).json()
        except (httpx2.TransportError, ValueError):
            return None
        return body if isinstance(body, dict) else None

    def _launch(self) -> LaunchedEngine:
        now = time.monotonic()
        self._starts = [start for start in self._starts if now - start < 60]
        if len(self._starts) >= STARTS_PER_MINUTE:
            raise BackendError(
                f"the engine was started {len(self._starts)} times within a minute and exited each "
                f"time; its log is {self._paths.log}"
            )
        self._starts.append(now)
        self._progress("Starting the engine", 0.0)
        try:
            return launch(self._paths, self._command)
        except EngineStartError as problem:
            raise BackendError(str(problem)) from problem


class _NotSent(BackendError):
    """The request did not reach an engine, so it is safe to retry."""


def _read(reader: Callable[[object], T], response: httpx2.Response) -> T:
    """The parsed body of a response. Raises BackendError for an error response."""
    try:
        body = response.json()
        if response.status_code == 200:
            return reader(body)
        message = str(body["error"]["message"])
    except (ValueError, KeyError, TypeError, WireError) as unreadable:
        raise BackendError(
            f"the engine sent an unreadable answer (status {response.status_code})"
        ) from unreadable
    kind = {400: Unfit, 501: Unsupported}.get(response.status_code, BackendError)
    raise kind(message)


def _discard(what: str, share: float) -> None:
    """Discards progress while no caller waits for the engine."""


def _read_exception(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
