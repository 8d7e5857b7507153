"""The engine of this machine as a backend: found or started, and found again when it dies.

Imports neither torch nor the HTTP client before `start` is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fim_model.requests import Completion, CompletionRequest, Rewrite, RewriteRequest

from fim_server.backends.base import BackendError, Progress, Unfit, Unsupported
from fim_server.engine.launch import LaunchedEngine, engine_command, launch
from fim_server.engine.place import EnginePlace, PlaceError, engine_place
from fim_server.engine.wire import (
    PROTOCOL,
    WireError,
    completion_from_json,
    request_to_json,
    rewritten_from_json,
)

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

T = TypeVar("T")

START_SECONDS = 120.0
"""How long an engine may take until its model is loaded."""

LISTEN_SECONDS = 60.0
"""How long a started engine may take until it answers on its socket."""

ANSWER_SECONDS = 60.0

FORGET_SECONDS = 1.0
"""How long an editor that closes waits for the engine to hear of it."""

POLL_SECONDS = 0.05

STARTS_PER_MINUTE = 4
"""An engine that keeps dying is not started for ever: it may have eaten the machine's memory."""

DEFAULT_IDLE_MINUTES = 15.0


class EngineBackend:
    """Implements Backend. `model` and `threads` as for the in-process one; `threads` holds for an
    engine that this backend starts. The engine leaves after `idle_minutes` without a request."""

    def __init__(
        self,
        model: str | None = None,
        threads: int | None = None,
        idle_minutes: float = DEFAULT_IDLE_MINUTES,
    ) -> None:
        if model is not None and Path(model).expanduser().exists():
            model = str(Path(model).expanduser().resolve())
        self._place = engine_place(model)
        self._command = engine_command(model, threads, idle_minutes)
        self._client: httpx2.AsyncClient | None = None
        # Two editors may have the same file open: to the engine their documents are two sessions.
        self._editor = secrets.token_hex(6)
        self._sessions: set[str] = set()
        self._ready = False
        self._getting_ready: asyncio.Task[None] | None = None
        self._starts: list[float] = []
        self._progress: Progress = _unseen

    @property
    def place(self) -> EnginePlace:
        return self._place

    async def start(self, progress: Progress) -> None:
        self._progress = progress
        try:
            await self._be_ready()
        finally:
            self._progress = _unseen

    async def complete(self, request: CompletionRequest) -> Completion:
        return _read(completion_from_json, await self._ask("/v1/fim", request))

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        return _read(rewritten_from_json, await self._ask("/v1/rewrite", request))

    async def forget(self, session: str) -> None:
        """Costs nothing for a session that was never asked about."""
        gone = {one for one in self._sessions if one == session or one.startswith(f"{session}#")}
        if gone:
            self._sessions -= gone
            await self._forget(f"{self._editor}#{session}")

    async def metrics(self) -> dict[str, float]:
        """The engine's own figures by name (with their labels). Raises BackendError."""
        import httpx2

        await self._be_ready()
        if self._client is None:
            raise BackendError("the connection to the engine is closed")
        try:
            lines = (await self._client.get("/metrics")).text.splitlines()
        except httpx2.TransportError as gone:
            raise BackendError("the engine is not there") from gone
        figures = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in figures}

    async def process(self) -> int:
        """The engine's process. Raises BackendError."""
        await self._be_ready()
        health = None if self._client is None else await self._health(self._client)
        if health is None:
            raise BackendError("the engine is not there")
        return int(health["pid"])

    async def close(self) -> None:
        if self._getting_ready is not None:
            self._getting_ready.cancel()
        if self._sessions:
            self._sessions.clear()
            await self._forget(self._editor)
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _of_this_editor(
        self, request: CompletionRequest | RewriteRequest
    ) -> CompletionRequest | RewriteRequest:
        """The request with its session's name for the engine, which serves several editors."""
        if not request.session:
            return request
        self._sessions.add(request.session)
        return replace(request, session=f"{self._editor}#{request.session}")

    async def _forget(self, name: str) -> None:
        """Tell the engine that a session is over, if there is an engine. Never raises."""
        import httpx2

        if self._client is None or not self._ready:
            return
        with contextlib.suppress(httpx2.HTTPError):
            await self._client.post("/v1/forget", json={"session": name}, timeout=FORGET_SECONDS)

    async def _ask(self, path: str, request: CompletionRequest | RewriteRequest) -> httpx2.Response:
        await self._be_ready()
        body = request_to_json(self._of_this_editor(request))
        try:
            return await self._post(path, body)
        except _NotSent:
            # Nothing was computed: the engine had left. One more try, with a new one.
            await self._be_ready()
            return await self._post(path, body)

    async def _post(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        import httpx2

        if self._client is None:
            raise BackendError("the connection to the engine is closed")
        try:
            return await self._client.post(path, json=body)
        except httpx2.ConnectError as gone:
            self._lost()
            raise _NotSent("the engine is not there") from gone
        except httpx2.TimeoutException as late:
            raise BackendError(f"the engine gave no answer within {ANSWER_SECONDS:.0f} s") from late
        except httpx2.TransportError as broken:
            self._lost()
            raise BackendError(
                "the engine went away during the request; it is being started again"
            ) from broken

    def _lost(self) -> None:
        """The engine died: get another one now, so that it is there for the next keystroke."""
        self._ready = False
        self._begin_getting_ready()

    async def _be_ready(self) -> None:
        """Returns when an engine has its model loaded. Raises BackendError."""
        if not self._ready:
            await asyncio.shield(self._begin_getting_ready())

    def _begin_getting_ready(self) -> asyncio.Task[None]:
        if self._getting_ready is None or self._getting_ready.done():
            self._getting_ready = asyncio.create_task(self._get_ready())
            # Nobody may be waiting for it; who asks next is told by a task of his own.
            self._getting_ready.add_done_callback(_read_exception)
        return self._getting_ready

    async def _get_ready(self) -> None:
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(
                # A connection for each request, which costs little on a socket: a kept one would
                # not tell an engine that left meanwhile from one that dies of the request.
                transport=httpx2.AsyncHTTPTransport(
                    uds=str(self._place.socket),
                    limits=httpx2.Limits(max_keepalive_connections=0),
                ),
                base_url="http://engine",
                timeout=ANSWER_SECONDS,
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
                    raise BackendError(f"no engine answers on {self._place.socket}")
            else:
                silent_since = now
                if self._is_ready(health):
                    self._ready = True
                    return
            if now - started > START_SECONDS:
                raise BackendError(f"the engine is not ready after {START_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    def _is_ready(self, health: dict[str, Any]) -> bool:
        """Raises BackendError where the engine says that it never will be."""
        if health.get("protocol") != PROTOCOL:
            raise BackendError(
                f"the engine speaks protocol {health.get('protocol')}, not {PROTOCOL}; end it "
                f"(process {health.get('pid')})"
            )
        if health.get("status") == "failed":
            raise BackendError(str(health.get("problem")))
        self._progress(str(health.get("doing", "")), float(health.get("share", 0)))
        return health.get("status") == "ok"

    async def _health(self, client: httpx2.AsyncClient) -> dict[str, Any] | None:
        """What the engine says of itself; None if none listens."""
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
                f"the engine was started {len(self._starts)} times within a minute and did not "
                f"stay; its log is {self._place.log}"
            )
        self._starts.append(now)
        self._progress("Starting the engine", 0.0)
        try:
            return launch(self._place, self._command)
        except PlaceError as problem:
            raise BackendError(str(problem)) from problem


class _NotSent(BackendError):
    """The request never reached an engine."""


def _read(reader: Callable[[object], T], response: httpx2.Response) -> T:
    """The answer in the terms of all backends. Raises BackendError for one that is an error."""
    try:
        body = response.json()
        if response.status_code == 200:
            return reader(body)
        message = str(body["error"]["message"])
    except (ValueError, KeyError, TypeError, WireError) as unreadable:
        raise BackendError(
            f"the engine's answer (status {response.status_code}) cannot be read"
        ) from unreadable
    kind = {400: Unfit, 501: Unsupported}.get(response.status_code, BackendError)
    raise kind(message)


def _unseen(what: str, share: float) -> None:
    """Progress that nobody watches."""


def _read_exception(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
