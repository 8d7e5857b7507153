#!/usr/bin/env python3
"""`make demo`: fill holes in source files of this repository, through a real language server.

For each hole: starts `fim-server lsp` as an editor would, opens the file with part of a line
removed, requests an inline completion there, and shows the ghost text in place. Then fills the same
hole in each mode and prints the cost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fim_model.requests import MODES, Completion, CompletionItem
from lsprotocol import types as lsp
from pygls.lsp.client import BaseLanguageClient
from rich.console import Console

from fim_server.backends.in_process import InProcessBackend
from fim_server.commands.render import figures, ghost_view
from fim_server.completion.hole import hole_at, request_for
from fim_server.completion.silence import Silence
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.settings.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
LOAD_TIMEOUT = 120.0
"""Seconds for the model to load."""


@dataclass(frozen=True)
class Gap:
    """Text to remove from `file`: the first occurrence of `whole`, except its beginning `kept`."""

    file: str
    whole: str
    kept: str


GAPS = (
    Gap(
        "fim_server/completion/cache.py",
        "            self._documents.popitem(last=False)",
        "            self.",
    ),
    Gap("model/fim_model/decoding/core.py", '    SCORE = "score"', "    SCORE = "),
)
"""Places where the default model is right, as it is in one of ten drawn at random."""


def open_gap(gap: Gap) -> tuple[Snapshot, lsp.Position]:
    """The file without the gap's text, and the cursor at the gap."""
    path = ROOT / gap.file
    text = path.read_text(encoding="utf-8")
    at = text.index(gap.whole) + len(gap.kept)
    text = text[:at] + text[at + len(gap.whole) - len(gap.kept) :]
    line = text.count("\n", 0, at)
    lines = split_lines(text)
    snapshot = Snapshot(path.as_uri(), "python", 1, 1, Encoding.UTF32, lines)
    return snapshot, lsp.Position(line, len(lines[line].rstrip("\n")))


async def ask_server(snapshot: Snapshot, position: lsp.Position) -> tuple[list[str], float]:
    """Suggestions of a newly started language server at a position, and their milliseconds."""
    client = BaseLanguageClient("fim-server-demo", "1")
    ready = asyncio.Event()

    @client.feature("didChangeStatus")
    def status_changed(params: Any) -> None:
        if params.kind == "Normal" and not params.busy:
            ready.set()

    await client.start_io(sys.executable, "-P", "-m", "fim_server", "lsp", "--in-process")
    try:
        capabilities = lsp.ClientCapabilities(
            general=lsp.GeneralClientCapabilities(
                position_encodings=[lsp.PositionEncodingKind.Utf32]
            ),
            experimental={"fim": {"status": True}},
        )
        await client.initialize_async(lsp.InitializeParams(capabilities))
        client.initialized(lsp.InitializedParams())
        document = lsp.TextDocumentItem(snapshot.uri, "python", 1, snapshot.text)
        client.text_document_did_open(lsp.DidOpenTextDocumentParams(document))
        ask = lsp.InlineCompletionParams(
            context=lsp.InlineCompletionContext(lsp.InlineCompletionTriggerKind.Invoked),
            text_document=lsp.TextDocumentIdentifier(snapshot.uri),
            position=position,
        )
        await asyncio.wait_for(ready.wait(), LOAD_TIMEOUT)
        began = time.perf_counter()
        answer = await client.text_document_inline_completion_async(ask)
        ms = 1000 * (time.perf_counter() - began)
        items = answer.items if isinstance(answer, lsp.InlineCompletionList) else answer or []
        return [str(item.insert_text) for item in items], ms
    finally:
        await client.shutdown_async(None)
        client.exit(None)
        await client.stop()


async def fill_in_each_mode(
    snapshot: Snapshot, position: lsp.Position, model: str | None
) -> list[Completion]:
    """The completion at a position in each of the first three modes."""
    settings = Settings()
    backend = InProcessBackend(model)
    await backend.start(lambda what, share: None)
    hole = hole_at(snapshot, position, settings.prefix_chars, settings.suffix_chars)
    request = request_for(hole, snapshot, settings, alternatives=1)
    try:
        await backend.complete(replace(request, session=""))  # warm-up
        return [
            await backend.complete(replace(request, mode=mode, session="")) for mode in MODES[:3]
        ]
    finally:
        await backend.close()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint for comparing modes; default: the bundled one")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    for gap in GAPS:
        snapshot, position = open_gap(gap)
        console.rule(f"{gap.file}, line {position.line + 1}")
        texts, ms = await ask_server(snapshot, position)
        console.print(ghost_view(snapshot, position, texts[0] if texts else ""))
        console.print(f"the language server answered in {ms:.0f} ms", style="bold")
        for completion in await fill_in_each_mode(snapshot, position, arguments.model):
            item = completion.items[0] if completion.items else CompletionItem("", 0.0)
            console.print(
                figures(completion, silence=None if completion.items else Silence.NOTHING_WRITTEN)
            )
            console.print(f"    {item.text!r}, confidence {item.confidence:.2f}", style="green")
    console.print(
        "These are places where the model is right, as it is in about one of four: while you type, "
        "it stays silent where it is unsure."
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
