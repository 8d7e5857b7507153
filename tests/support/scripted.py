"""A Backend that answers by script, in place of a model.

Run as a program, `python tests/support/scripted.py`, it is the real language server on stdio with
this backend. The script is the text left of the cursor on its line:

    #say TEXT       answer TEXT, with the characters "\\n" as a line end; variants get " 2", " 3" …
    #wait           answer nothing until the request is cancelled
    #around         answer the text on both sides, as Python writes it
    #fail TEXT      raise BackendError(TEXT)
    #crash TEXT     raise ValueError(TEXT): a mistake of the backend

Any other text is answered "[N]", where N is the number of requests so far.

Rewrites replace in the region the names that the past edits replaced, with a gain of 9 nats; every
draft gains as much, later ones slightly less. A region with "#keep" is unchanged, one with "#wait"
runs until the request is cancelled, and "#gain N" sets all gains to N nats.

The instruction "OLD NEW" replaces the word OLD by NEW in the region. An AssistantBackend has this,
and answers a question with a code block that was asked for (`block TEXT`), or else with the last
message, in two parts; after the first half of the answer to a line `wait TEXT` it waits until it is
cancelled. Programs get one with SCRIPTED_ASSISTANT set: to why it does not follow
instructions, or to "yes".
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fim_model.requests import (
    ChatRequest,
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    InstructionRequest,
    Rewrite,
    RewriteRequest,
)

from fim_server.backends.base import BackendError

NAME = re.compile(r"[^\W\d]\w*")


class ScriptedBackend:
    """Implements Backend; records requests and cancellations."""

    def __init__(
        self, load_problem: str = "", loads_for_s: float = 0, loads_until: Path | None = None
    ) -> None:
        self.load_problem = load_problem
        self.loads_for_s = loads_for_s
        self.loads_until = loads_until
        self.asked: list[CompletionRequest] = []
        self.arrivals: asyncio.Queue[CompletionRequest] = asyncio.Queue()
        self.stopped: list[CompletionRequest] = []
        self.rewrites: list[RewriteRequest] = []
        self.rewriting, self.rewrite_stopped = asyncio.Event(), asyncio.Event()
        self.forgotten: list[str] = []
        self.closed = False
        self.uses_adapters = True

    async def start(self, progress: Callable[[str, float], None]) -> None:
        await asyncio.sleep(self.loads_for_s / 2)
        progress("Loading", 0.5)
        await asyncio.sleep(self.loads_for_s / 2)
        while self.loads_until and not self.loads_until.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
        if self.load_problem:
            raise BackendError(self.load_problem)

    async def complete(self, request: CompletionRequest) -> Completion:
        if request.speculative:  # not requested by a client, which these tests are about
            return Completion()
        self.asked.append(request)
        self.arrivals.put_nowait(request)
        command, _, text = request.prefix.rpartition("\n")[2].partition("#")[2].partition(" ")
        if command == "wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.stopped.append(request)
                raise
        if command == "fail":
            raise BackendError(text)
        if command == "crash":
            raise ValueError(text)
        if command == "around":
            text = f"{request.prefix!r} {request.suffix!r}"
            return Completion([CompletionItem(text, 0.5)], None)
        said = text.replace("\\n", "\n") if command == "say" else f"[{len(self.asked)}]"
        variants = [said, *(f"{said} {n}" for n in range(2, request.alternatives + 1))]
        stats = CompletionStats(request.mode, 3, 6, 2.0, 10, 0, 1.0)
        adapter = request.adapter if self.uses_adapters else ""
        items = [CompletionItem(variant, 0.5) for variant in variants]
        return Completion(items, stats, adapter=adapter)

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        self.rewrites.append(request)
        self.rewriting.set()
        if "#wait" in request.old:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.rewrite_stopped.set()
                raise
        new, gain = request.old, 0.0
        for edit in () if "#keep" in request.old else request.edits:
            for name, later in zip(NAME.findall(edit.old), NAME.findall(edit.new), strict=False):
                new = re.sub(rf"\b{name}\b", later, new)
        told = re.search(r"#gain (-?\d+)", request.old)
        most = float(told[1]) if told else 9.0
        if "#keep" in request.old:
            most = -99.0
        elif new != request.old:
            gain = most
        drafts = tuple(most - 0.1 * rank for rank in range(len(request.drafts)))
        return Rewrite(new, gain, 0.9, "rewrite", 2, 5, 0, 1.0, drafts, draft_weight=1.0)

    async def forget(self, session: str) -> None:
        self.forgotten.append(session)

    async def close(self) -> None:
        self.closed = True


class AssistantBackend(ScriptedBackend):
    """Implements Assistant too."""

    def __init__(self, refusal: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.refusal = refusal
        self.instructed: list[InstructionRequest] = []
        self.questions: list[ChatRequest] = []

    async def why_not_instruct(self) -> str | None:
        return self.refusal

    async def instruct(self, request: InstructionRequest) -> Rewrite | None:
        self.instructed.append(request)
        old, _, new = request.instruction.partition(" ")
        if old == "fail":
            raise BackendError(new)
        text = re.sub(rf"\b{re.escape(old)}\b", new.replace("\\n", "\n"), request.old)
        return Rewrite(text, 0.0, 0.9, "instruction", 2, 5, 0, 1.0)

    async def answer(self, request: ChatRequest, on_text: Callable[[str], None]) -> str:
        self.questions.append(request)
        asked = request.messages[-1].content
        _, block, code = asked.rpartition("block ")
        code = code.replace("\\n", "\n")
        text = f"Here:\n```python\n{code}\n```\n" if block else f"You said: {asked}"
        on_text(text[: len(text) // 2])
        if re.search(r"^wait ", asked, re.MULTILINE):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        on_text(text)
        return text


def main() -> int:
    from fim_server.lsp.app import run_stdio
    from fim_server.settings.settings import Settings

    def factory(settings: Settings) -> ScriptedBackend:
        sys.stdout.write("noise that a library prints\n")
        sys.stdout.flush()
        os.write(1, b"noise that C code prints\n")
        if assists := os.environ.get("SCRIPTED_ASSISTANT"):
            return AssistantBackend(None if assists == "yes" else assists)
        until = os.environ.get("SCRIPTED_LOADS_UNTIL")
        return ScriptedBackend(
            os.environ.get("SCRIPTED_LOAD_PROBLEM", ""),
            float(os.environ.get("SCRIPTED_LOADS_FOR", "0")),
            Path(until) if until else None,
        )

    return run_stdio(Settings(), factory)


if __name__ == "__main__":
    sys.exit(main())
