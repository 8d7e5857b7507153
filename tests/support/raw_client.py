"""A JSON-RPC client on the pipes of a real server process, which can send arbitrary bytes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted.py")))
PATIENCE_S = 60

Json = dict[str, Any]


class RawClient:
    """Records every message from the server; `process` ends with the `async with` block."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.notifications: list[Json] = []
        self.answers: dict[Any, Json] = {}
        self.replies: dict[str, Any] = {}
        self.stderr = ""
        self._ids = itertools.count(1)
        self._open = True
        self._arrived = asyncio.Condition()
        self._readers = [
            asyncio.create_task(self._read_messages()),
            asyncio.create_task(self._read_stderr()),
        ]

    def send(self, *messages: Json) -> None:
        """Send messages in one write, so that the server queues all of them."""
        self.send_bodies(
            *(json.dumps({"jsonrpc": "2.0", **message}).encode() for message in messages)
        )

    def send_bodies(self, *bodies: bytes) -> None:
        self.send_frames(*(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies))

    def send_frames(self, *frames: bytes) -> None:
        """Send messages with headers of the caller's own."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(frames))

    def notify(self, method: str, params: object = None) -> None:
        self.send({"method": method, "params": params})

    def request(self, method: str, params: object = None) -> int:
        """Send a request and return its id, without waiting."""
        number = next(self._ids)
        self.send({"id": number, "method": method, "params": params})
        return number

    async def answer(self, number: object) -> Json:
        """Wait for the whole response to a request."""
        await self._until(lambda: number in self.answers)
        return self.answers[number]

    async def ask(self, method: str, params: object = None) -> Any:
        """Send a request and return its result; an error fails the test."""
        answer = await self.answer(self.request(method, params))
        assert "error" not in answer, answer
        return answer["result"]

    async def notified(self, method: str, count: int = 1) -> list[Json]:
        """Wait for `count` notifications of a method; return their parameters."""

        def found() -> list[Json]:
            return [
                message["params"] for message in self.notifications if message["method"] == method
            ]

        await self._until(lambda: len(found()) >= count)
        return found()

    async def progress_end(self) -> Json:
        """The value of the work-done progress's end message."""

        def end() -> list[Json]:
            values = [
                message["params"]["value"]
                for message in self.notifications
                if "$/" in message["method"]
            ]
            return [value for value in values if value.get("kind") == "end"]

        await self._until(end)
        return end()[0]

    async def initialize(self, options: object = None, **capabilities: object) -> Json:
        """Initialize a client that knows `didChangeStatus`; `experimental` replaces that."""
        result = await self.ask(
            "initialize",
            {
                "processId": None,
                "rootUri": None,
                "capabilities": {"experimental": {"fim": {"status": True}}, **capabilities},
                "initializationOptions": options,
            },
        )
        self.notify("initialized", {})
        return dict(result)

    def open(self, uri: str, text: str, version: int = 1) -> None:
        document = {"uri": uri, "languageId": "python", "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})

    def change(self, uri: str, version: int, start: Sequence[int], end: Sequence[int], text: str):  # type: ignore[no-untyped-def]
        span = {
            name: {"line": line, "character": character}
            for name, (line, character) in (("start", start), ("end", end))
        }
        self.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": uri, "version": version},
                "contentChanges": [{"range": span, "text": text}],
            },
        )

    async def complete(self, uri: str, line: int, character: int, kind: int = 2) -> list[str]:
        """Request an inline completion and return its texts."""
        result = await self.ask(INLINE, inline_params(uri, line, character, kind))
        return [item["insertText"] for item in result["items"]]

    async def leave(self) -> int:
        """Send `shutdown` and `exit`; return the exit code of the process."""
        assert await self.ask("shutdown") is None
        self.notify("exit")
        return await self.ended()

    async def ended(self) -> int:
        """Wait until the process has ended and its output is read; return the exit code."""
        code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        await asyncio.wait_for(asyncio.gather(*self._readers), PATIENCE_S)
        return code

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def _until(self, there: Any) -> None:
        async with self._arrived, asyncio.timeout(PATIENCE_S):
            await self._arrived.wait_for(lambda: there() or not self._open)
        assert there(), f"the server left first; it said:\n{self.stderr}"

    async def _read_messages(self) -> None:
        """Read messages from stdout; fails on anything that is not LSP."""
        stream = self.process.stdout
        assert stream is not None
        try:
            while header := await stream.readline():
                assert header.startswith(b"Content-Length: "), header
                while await stream.readline() != b"\r\n":
                    pass
                self._keep(json.loads(await stream.readexactly(int(header.split()[1]))))
                async with self._arrived:
                    self._arrived.notify_all()
        finally:
            self._open = False
            async with self._arrived:
                self._arrived.notify_all()

    def _keep(self, message: Json) -> None:
        if "method" not in message:
            number = message["id"]
            assert number is None or number not in self.answers, f"answered twice: {message}"
            self.answers[message["id"]] = message
        else:
            self.notifications.append(message)
            if "id" in message:
                reply = self.replies.get(message["method"])
                self.send({"id": message["id"], "result": reply})

    async def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.stderr += line.decode()


INLINE = "textDocument/inlineCompletion"


def inline_params(uri: str, line: int, character: int, kind: int = 2) -> Json:
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": character},
        "context": {"triggerKind": kind},
    }


@asynccontextmanager
async def raw_client(
    command: Sequence[str] = SCRIPTED,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> AsyncIterator[RawClient]:
    """A client of a new server process, by default with the scripted backend."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        limit=1 << 24,
    )
    client = RawClient(process)
    try:
        yield client
    finally:
        await client.stop()
