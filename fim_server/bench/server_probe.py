"""Measure a real server process over stdio, as an editor sees it.

Deliberately does not use pygls: the probe must not share a parser, an event loop or start-up cost
with the server it measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from fim_server.bench.machine import Memory, memory_of
from fim_server.bench.samples import Keystrokes

SERVER = (sys.executable, "-P", "-m", "fim_server", "lsp", "--in-process")
_TIMEOUT_S = 120.0
_ERROR = 1
"""LSP's MessageType.Error: the server shows one when it has no model."""


class ProbeError(RuntimeError):
    """The server failed or timed out; the one-line message says at what."""


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """Start-up times and memory of a server process.

    `initialize_ms` is the median time from process start to the answer to `initialize`, and
    `ready_ms` the time from process start to the loaded model. `memory` is taken after one
    completion, which had `items` items.
    """

    initialize_ms: float
    initialize_slowest_ms: float
    ready_ms: float
    items: int
    memory: Memory


async def probe_server(
    sample: Keystrokes,
    command: Sequence[str] = SERVER,
    *,
    options: Mapping[str, Any] | None = None,
    starts: int = 5,
) -> ServerFigures:
    """Start the server `starts` times for `initialize`, and complete `sample` in the last process.

    `options` are the client's initializationOptions. Raises ProbeError if the server exits, answers
    with an error, cannot load its model, or sends nothing for two minutes.
    """
    times = await initialize_times(starts - 1, command, options)
    async with _server(command) as server:
        times.append(await server.initialize(options))
        ready_ms = await server.until_ready()
        items = await server.complete(sample)
        memory = memory_of(server.process.pid)
    return ServerFigures(
        initialize_ms=round(median(times), 1),
        initialize_slowest_ms=round(max(times), 1),
        ready_ms=round(ready_ms, 1),
        items=items,
        memory=memory,
    )


async def initialize_times(
    starts: int, command: Sequence[str] = SERVER, options: Mapping[str, Any] | None = None
) -> list[float]:
    """Milliseconds from process start to the answer to `initialize`, of `starts` processes.

    Raises ProbeError as `probe_server`.
    """
    times = []
    for _ in range(starts):
        async with _server(command) as server:
            times.append(await server.initialize(options))
    return times


@asynccontextmanager
async def _server(command: Sequence[str]) -> AsyncIterator[_Server]:
    """A running server, killed on exit."""
    started = time.perf_counter()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise ProbeError(f"{command[0]}: cannot be started ({error.strerror})") from error
    try:
        yield _Server(process, started)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class _Server:
    """The client side of the connection."""

    def __init__(self, process: asyncio.subprocess.Process, started: float) -> None:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        self.process, self.started = process, started
        self._to, self._from = process.stdin, process.stdout
        self._requests = 0
        self._loaded = False

    async def initialize(self, options: Mapping[str, Any] | None) -> float:
        """Milliseconds from the start of the process to the answer."""
        capabilities = {
            "window": {"workDoneProgress": True},
            "textDocument": {"inlineCompletion": {}, "synchronization": {}},
        }
        await self._request(
            "initialize",
            {
                "processId": None,
                "rootUri": None,
                "capabilities": capabilities,
                "initializationOptions": dict(options or {}),
            },
        )
        answered = self._elapsed_ms()
        await self._send({"method": "initialized", "params": {}})
        return answered

    async def until_ready(self) -> float:
        """Wait until the model is loaded, the first work-done progress to end."""
        while not self._loaded:
            await self._handle(await self._message("the model to load"))
        return self._elapsed_ms()

    async def complete(self, sample: Keystrokes) -> int:
        """Open the sample's document, request a completion, and return the number of items."""
        uri = f"file:///{sample.path}"
        document = {"uri": uri, "languageId": "python", "version": 1}
        text = sample.before + sample.after
        await self._send(
            {
                "method": "textDocument/didOpen",
                "params": {"textDocument": {**document, "text": text}},
            }
        )
        line = sample.before.count("\n")
        character = len(sample.before.rpartition("\n")[2].encode("utf-16-le")) // 2
        answer = await self._request(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": uri},
                "position": {"line": line, "character": character},
                "context": {"triggerKind": 2},
            },
        )
        return len(answer["items"])

    def _elapsed_ms(self) -> float:
        return 1000 * (time.perf_counter() - self.started)

    async def _request(self, method: str, params: dict[str, Any]) -> Any:
        self._requests += 1
        number = self._requests
        await self._send({"id": number, "method": method, "params": params})
        while True:
            message = await self._message(f"the answer to {method}")
            if message.get("id") == number and "method" not in message:
                if "error" in message:
                    raise ProbeError(f"{method}: {message['error'].get('message')}")
                return message["result"]
            await self._handle(message)

    async def _handle(self, message: dict[str, Any]) -> None:
        """Answer a server request, track its progress. Raises ProbeError for an error message."""
        params: Any = message.get("params")
        match message.get("method"):
            case str() if "id" in message:
                await self._send({"id": message["id"], "result": None})
            case "$/progress":
                self._loaded |= params["value"].get("kind") == "end"
            case "window/showMessage" if params["type"] == _ERROR:
                raise ProbeError(params["message"])

    async def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        try:
            await self._to.drain()
        except ConnectionError:
            raise ProbeError("the server exited; see its log") from None

    async def _message(self, awaited: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                header = await self._from.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in header.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                message: dict[str, Any] = json.loads(await self._from.readexactly(length))
                return message
        except TimeoutError:
            raise ProbeError(f"timed out after {_TIMEOUT_S:.0f} s waiting for {awaited}") from None
        except asyncio.IncompleteReadError:
            raise ProbeError(f"the server exited before {awaited}") from None
        except (StopIteration, ValueError, asyncio.LimitOverrunError):
            raise ProbeError("the server wrote something other than LSP to stdout") from None
