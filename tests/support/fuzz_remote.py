"""Fuzz a real server whose remote backend gives odd answers.

    python tests/support/fuzz_remote.py --requests 5000 --seed 1

Every request is answered. An item that is accepted leaves no bracket or quote of its line without a
partner that has one now. What is no completion has a reason in the status, and afterwards the
server still completes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from raw_client import INLINE, Json, RawClient, inline_params, raw_client

from fim_server.syntax.brackets import balance

COMMAND = (sys.executable, "-m", "fim_server", "lsp")
URI = "file:///fuzz/remote.py"
CODE = [
    "x",
    "f(",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    "`",
    "<",
    ">",
    ", ",
    "= ",
    "a.b",
    ":",
    ";",
]
PAIRS = ["()", "[]", "{}", '""', "''", "({})", "f(|)", "[|]", "{|}", '("|")', "<|>", "``"]
TOKENS = ["<|endoftext|>", "</s>", "\ud83d", "\r\n", "\n", "\n    ", "\0", "\u2028", "```py\n"]


class OddRemote:
    """What the remote server answers; `good` is a completion that must be shown."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        self.good = False

    def text(self) -> str:
        return "".join(self.random.choices(CODE + PAIRS + TOKENS, k=self.random.randrange(10)))

    def line(self) -> tuple[str, str]:
        """A line of code on both sides of the cursor, now and then a long one."""
        pieces = self.random.choices(CODE, k=self.random.randrange(6))
        before, _, after = self.random.choice(PAIRS).partition("|")
        long = "f(" * (2000 if self.random.random() < 0.02 else 0)
        return long + "".join(pieces) + before, after + self.random.choice(["", "", ";", " y"])

    def body(self) -> bytes:
        """A body in one of the shapes that servers and proxies give."""
        if self.good:
            return json.dumps({"choices": [{"text": "value"}]}).encode()
        kind = self.random.choices(["choice", "odd", "json", "stream", "other"], [6, 2, 2, 2, 1])[0]
        self.kinds[kind] += 1
        pick = self.random.choice
        choice: Any = {"text": self.text(), "finish_reason": pick(["stop", "odd", None, 7])}
        if kind == "odd":
            choice = pick([None, {}, {"text": None}, {"message": {"content": self.text()}}, 7])
        usage = pick([None, {}, [], {"completion_tokens": "2", "prompt_tokens": 1.5}])
        answer: Any = {"choices": [choice] * self.random.randrange(3), "usage": usage}
        if kind == "json":
            answer = pick(
                [None, [], 7, {"error": {"message": "busy"}}, {"error": 1}, {"text": "x"}]
            )
        body = json.dumps(answer)
        if kind == "stream":
            error = pick(["", "", "event: error\ndata: x\n\n"])
            body = f": comment\n\nretry: 1\n\ndata: {body}\n\n{error}data: [DONE]\n\n"
        elif kind == "other":
            body = pick(["<html>", "", "error: x\n\n", body[:9], "[" * 5000, "\ufeff" + body])
        return body.encode("utf-8", "surrogatepass")

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The address of a server that answers every request with `body()`."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            length = 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            body = self.body()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        finally:
            listening.close()


async def fuzz_remote(requests: int, seed: int, home: str) -> Counter[str]:
    """Send this many requests; returns how often what happened. Raises AssertionError."""
    remote, seen = OddRemote(seed), Counter[str]()
    places = {f"XDG_{name}_HOME": home for name in ("CONFIG", "STATE", "DATA", "CACHE")}
    async with remote.served() as url, raw_client(COMMAND, places) as client:
        fim = {"status": True, "replaceRest": seed % 2 == 0}
        options = {"backend": "openai", "remoteUrl": url, "remoteModel": "m", "nextEdits": False}
        await client.initialize(options, experimental={"fim": fim})
        await client.notified("didChangeStatus", 2)
        client.open(URI, "")
        for number in range(requests):
            before, after = remote.line()
            seen[await _ask(client, number, before, after)] += 1
        remote.good = True
        assert await _ask(client, requests, "x = ", "") == "shown"
        assert await client.leave() == 0
        for sign in ("Traceback", "internal_error", "inline completion failed"):
            assert sign not in client.stderr, client.stderr[-2000:]
    return seen + remote.kinds


async def _ask(client: RawClient, version: int, before: str, after: str) -> str:
    """Write a document of one line and ask in it; returns what came of it."""
    document: Json = {"uri": URI, "version": version + 2}
    change = {"text": f"{before}{after}\n"}
    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
    result = await client.ask(INLINE, inline_params(URI, 0, len(before)))
    states = await client.notified("didChangeStatus")
    if not result["items"]:
        if states[-1]["kind"] == "Warning":
            assert states[-1]["message"].startswith("the last request failed: 127.0.0.1:")
            return "failed, with a reason"
        return "silent"
    for item in result["items"]:
        start, end = item["range"]["start"], item["range"]["end"]
        assert item["insertText"].strip(), item
        assert (start["line"], end["line"]) == (0, 0), item
        assert start["character"] == len(before) <= end["character"], item
        if after.strip():
            later = before + item["insertText"] + after[end["character"] - len(before) :]
            worse = balance(later[-3000:], "python") - balance((before + after)[-3000:], "python")
            assert not worse or len(before) > 900, (before, item, after)
    return "shown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        seen = asyncio.run(fuzz_remote(arguments.requests, arguments.seed, home))
    print(", ".join(f"{name} {count}" for name, count in seen.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
