"""Fuzz a real server with random, malformed, reordered and cancelled messages.

Headers have every form that clients use, some messages come after a header without a usable length,
fields are null, documents are loops of links and FIFOs, texts and names hold halves of surrogates.

    python tests/support/fuzz.py --messages 50000 --seed 1

Every request must be answered exactly once. The process must not hang or crash, and must still
complete code and exit with code 0 afterwards. The same seed sends the same messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from raw_client import INLINE, Json, RawClient, inline_params, raw_client

COMMAND = (sys.executable, "-m", "fim_server", "lsp", "--in-process")
BURST = 25
"""Messages that are written at once; then one valid request must be answered."""

URIS = [f"file:///fuzz/{name}.py" for name in "abc"] + ["untitled:x", "file:///fuzz/.env", "", ":"]
ODD_URIS = [
    "file:///fuzz/\ud800.py", "untitled:\udc00", "file://[", "http://[::1/x.py", "file:relative.py",
    "file:///%ED%A0%80.py", "file:///a%00b.py", "file:///" + "x" * 300, "file:///" + "d/" * 3000,
]  # fmt: skip
CELLS = [f"vscode-notebook-cell:/fuzz/n.ipynb#{number}" for number in range(4)]
PIECES = ["a", " ", "\n", "\r", "\r\n", "\f", "\u2028", "é", "😀", "\ud83d", "def f(", "):", "\0"]
PIECES += ["\ude00", "x" * 2000, "😀" * 300, "\x1b[31m"]
HEADERS = [
    b"Content-Length: %d\r\n\r\n", b"content-length:    %d\r\n\r\n", b"Content-Length:%d \r\n\r\n",
    b"Content-Length: %d\n\n", b"\r\nCONTENT-LENGTH:\t%d\r\nX-Odd: 1\r\n\r\n",
    b"Content-Type: application/vscode-jsonrpc; charset=utf8\r\nContent-Length: %d\r\n\r\n",
]  # fmt: skip
UNUSABLE = [
    b"Content-Length: oops\r\n\r\n{}", b"Content-Length: -3\r\n\r\n", b"\0\0\r\n\r\n", b"{}\n\n",
    b"Content-Length: 99999999999999999999\r\n\r\n", b"X: 1\r\n\r\n[]",
    b"Content-Length: 0\r\n\r\n",
]  # fmt: skip
"""Headers without a usable length, which cost no more than their own message."""
REQUESTS = [INLINE, "workspace/executeCommand", "textDocument/hover", "no/such", "$/odd"]
NOTIFICATIONS = [
    "textDocument/didOpen",
    "textDocument/didChange",
    "textDocument/didClose",
    "notebookDocument/didOpen",
    "notebookDocument/didChange",
    "notebookDocument/didClose",
    "textDocument/didShowCompletion",
    "textDocument/didPartiallyAcceptCompletion",
    "textDocument/didFocus",
    "workspace/didChangeConfiguration",
    "workspace/didChangeWorkspaceFolders",
    "window/workDoneProgress/cancel",
    "$/setTrace",
    "$/cancelRequest",
    "initialized",
    "no/such",
]


@dataclass
class Fuzzer:
    """Generates messages from a seed; `expected` are the ids that must be answered."""

    seed: int
    files: list[str] = field(default_factory=list)
    """URIs of files on disk that are no regular files."""
    expected: list[Any] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.numbers = 1000  # the client's own ids count from 1
        self.version = 0

    def message(self) -> bytes:
        """The body of one message."""
        kinds = [
            (self.edit, 30),
            (self.completion, 25),
            (self.cancel, 10),
            (self.notebook, 6),
            (self.configuration, 3),
            (self.nonsense_request, 8),
            (self.nonsense_notification, 10),
            (self.stray_answer, 3),
        ]
        make = self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        self.sent[make.__name__] += 1
        message = make()
        if self.random.random() < 0.05:
            self.sent["nulled"] += 1
            message["params"] = self.nulled(message.get("params"))
        if "id" not in message and self.random.random() < 0.08:
            self.sent["broken"] += 1
            return self.broken(json.dumps({"jsonrpc": "2.0", **message}).encode())
        return json.dumps({"jsonrpc": "2.0", **message}).encode()

    def frame(self, body: bytes) -> bytes:
        """The message with a header, sometimes after one that cannot be used."""
        before = b""
        if self.random.random() < 0.05:
            self.sent["unusable header"] += 1
            before = self.random.choice(UNUSABLE)
        header = HEADERS[0]
        if self.random.random() < 0.2:
            self.sent["odd header"] += 1
            header = self.random.choice(HEADERS)
        return before + header % len(body) + body

    def nulled(self, value: Any) -> Any:
        """The value with one field of it null."""
        if isinstance(value, dict) and value:
            key = self.random.choice(list(value))
            return {**value, key: self.nulled(value[key])}
        if isinstance(value, list) and value:
            return [self.nulled(value[0]), *value[1:]]
        return None

    def text(self) -> str:
        return "".join(self.random.choices(PIECES, k=self.random.randrange(30)))

    def uri(self) -> str:
        odd = self.random.random() < 0.15
        return self.random.choice(ODD_URIS + self.files if odd else URIS + CELLS)

    def position(self) -> Json:
        odd = self.random.random() < 0.05
        line = self.random.choice([-1, 2**31, 1.5, "0"]) if odd else self.random.randrange(12)
        return {"line": line, "character": self.random.randrange(40)}

    def edit(self) -> Json:
        uri = self.uri()
        self.version += self.random.choice([1, 1, 1, 0, -3])
        document: Json = {"uri": uri, "version": self.version}
        if self.random.random() < 0.05:
            document["version"] = self.random.choice([None, "3", 2**40, 1.0])
        kind = self.random.random()
        if kind < 0.2:
            document |= {"languageId": self.random.choice(["python", "go", "x"])}
            document["text"] = self.text()
            return {"method": "textDocument/didOpen", "params": {"textDocument": document}}
        if kind < 0.25:
            return {"method": "textDocument/didClose", "params": {"textDocument": document}}
        changes = []
        for _ in range(self.random.randrange(4)):
            change: Json = {"text": self.text()}
            if self.random.random() < 0.8:
                change["range"] = {"start": self.position(), "end": self.position()}
            elif self.random.random() < 0.3:
                change["range"] = None
            changes.append(change)
        params = {"textDocument": document, "contentChanges": changes}
        return {"method": "textDocument/didChange", "params": params}

    def completion(self) -> Json:
        params = inline_params(self.uri(), 0, 0, self.random.choice([1, 2, 2, 2, 9]))
        params["position"] = self.position()
        if self.random.random() < 0.1:
            params["textDocument"]["version"] = self.random.choice([self.version, 0, "x", None])
        if self.random.random() < 0.15:
            params["context"]["selectedCompletionInfo"] = self.selected(params["position"])
        return {"id": self.new_id(), "method": INLINE, "params": params}

    def selected(self, cursor: Json) -> Json:
        """A selected item of the editor's list, mostly at the cursor."""
        near = self.random.random() < 0.7
        start, end = (cursor, cursor) if near else (self.position(), self.position())
        return {"range": {"start": {**start, "character": 0}, "end": end}, "text": self.text()}

    def cancel(self) -> Json:
        """Cancel an earlier request, or one not sent yet."""
        known = [*self.expected[-20:], self.numbers + 1, self.numbers + 2, "unknown", None]
        return {"method": "$/cancelRequest", "params": {"id": self.random.choice(known)}}

    def notebook(self) -> Json:
        cells = self.random.sample(CELLS, self.random.randrange(4))
        texts = [
            {"uri": uri, "languageId": "python", "version": 1, "text": self.text()} for uri in cells
        ]
        document: Json = {"uri": "file:///fuzz/n.ipynb", "version": self.version}
        listed = [{"kind": 2, "document": uri} for uri in cells]
        kind = self.random.random()
        if kind < 0.4:
            document |= {"notebookType": "jupyter-notebook", "cells": listed}
            params = {"notebookDocument": document, "cellTextDocuments": texts}
            return {"method": "notebookDocument/didOpen", "params": params}
        if kind < 0.5:
            params = {"notebookDocument": document, "cellTextDocuments": [{"uri": CELLS[0]}]}
            return {"method": "notebookDocument/didClose", "params": params}
        array = {"start": self.random.randrange(6), "deleteCount": self.random.randrange(6)}
        structure = {"array": {**array, "cells": listed}, "didOpen": texts}
        params = {"notebookDocument": document, "change": {"cells": {"structure": structure}}}
        return {"method": "notebookDocument/didChange", "params": params}

    def configuration(self) -> Json:
        keys = ["mode", "maxLines", "alternatives", "exclude", "snippets", "gitignore", "odd"]
        values = ["ar", "diffusion", 1, 3, 0, [], ["*.x"], True, None, {"a": 1}]
        section = {key: self.random.choice(values) for key in self.random.sample(keys, 3)}
        settings = self.random.choice([{"fim": section}, {"fim": section}, None, [], {"fim": 7}])
        return {"method": "workspace/didChangeConfiguration", "params": {"settings": settings}}

    def nonsense_request(self) -> Json:
        method = self.random.choice(REQUESTS)
        return {"id": self.new_id(), "method": method, "params": self.value(3)}

    def nonsense_notification(self) -> Json:
        return {"method": self.random.choice(NOTIFICATIONS), "params": self.value(3)}

    def stray_answer(self) -> Json:
        return {"id": self.random.choice([-5, "never", None]), "result": self.value(2)}

    def value(self, depth: int) -> Any:
        """Random JSON; the keys of objects are real ones."""
        keys = ["textDocument", "uri", "position", "item", "command", "arguments", "id", "class"]
        kind = self.random.randrange(8 if depth else 6)
        if kind == 6:
            return [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        if kind == 7:
            return {key: self.value(depth - 1) for key in self.random.sample(keys, 3)}
        return [None, True, -1, 2**60, self.text(), self.uri()][kind]

    def broken(self, body: bytes) -> bytes:
        """A notification with damaged, truncated or replaced bytes; never a valid request."""
        kind = self.random.randrange(3)
        if kind == 0:
            return body[: self.random.randrange(len(body))]
        if kind == 1:
            return self.random.choice([b"", b"null", b"[]", b"{}", b"7", b"\xff\xfe", b"[" * 5000])
        place = self.random.randrange(len(body))
        return body[:place] + bytes([self.random.randrange(128, 256)]) + body[place + 1 :]

    def new_id(self) -> int | str:
        self.numbers += 1
        number: int | str = self.numbers if self.random.random() < 0.8 else f"id{self.numbers}"
        self.expected.append(number)
        return number


async def fuzz(messages: int, seed: int, model: str, home: str) -> Fuzzer:
    """Send this many messages. Raises AssertionError, or times out, if the server misbehaves."""
    fuzzer = Fuzzer(seed, odd_files(Path(home) / "odd"))
    places = {f"XDG_{name}_HOME": home for name in ("CONFIG", "STATE", "DATA", "CACHE")}
    async with raw_client(COMMAND, {"OMP_NUM_THREADS": "1", **places}) as client:
        await client.initialize({"model": model, "maxTokens": 3, "threads": 1})
        await client.notified("didChangeStatus", 2)
        for start in range(0, messages, BURST):
            count = min(BURST, messages - start)
            client.send_frames(*(fuzzer.frame(fuzzer.message()) for _ in range(count)))
            await answered(client, fuzzer, f"alive{start}")
        for number in fuzzer.expected:
            await client.answer(number)
        client.notify("workspace/didChangeConfiguration", {"settings": {"fim": {}}})
        client.open("file:///fuzz/end.py", "x = ")
        assert isinstance(await client.complete("file:///fuzz/end.py", 0, 4), list)
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr, client.stderr[-2000:]
    return fuzzer


def odd_files(folder: Path) -> list[str]:
    """The URIs of files that are no regular ones, beside a regular one."""
    folder.mkdir()
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "zero.py").symlink_to("/dev/zero")
    (folder / "folder.py").mkdir()
    os.mkfifo(folder / "fifo.py")
    (folder / "good.py").write_text("import loop, fifo, zero\n")
    return [f"file://{path}" for path in sorted(folder.iterdir())]


async def answered(client: RawClient, fuzzer: Fuzzer, number: str) -> None:
    """Check that the server still answers a valid request."""
    params = inline_params(f"file:///fuzz/{number}.py", 0, 0)
    client.send({"id": number, "method": INLINE, "params": params})
    answer = await client.answer(number)
    assert answer.get("result") == {"items": []}, answer


def main() -> int:
    from tiny_checkpoint import write_tiny_checkpoint

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        model = str(write_tiny_checkpoint(Path(home) / "model"))
        done = asyncio.run(fuzz(arguments.messages, arguments.seed, model, home))
    print(f"{arguments.messages} messages, {len(done.expected)} requests, each answered once")
    print(", ".join(f"{name} {count}" for name, count in done.sent.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
