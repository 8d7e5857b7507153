"""One hole for the foreign APIs: stop strings, growing text, and the time the prompt took."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from fim_server.backends.base import Completion, CompletionRequest
from fim_server.backends.in_process import TextListener
from fim_server.engine.native_api import answer
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Stops


@dataclass(slots=True)
class Generation:
    """A request of a foreign API on its way.

    Those clients have no sessions of ours in which the latest wins: their requests queue. `stop` is
    the stop string that ended the text, `completion` what was made; it stays empty if a stop string
    ended the work.
    """

    state: EngineState
    api: str
    request: CompletionRequest
    stops: Sequence[str] = ()
    began: float = field(default_factory=time.perf_counter)
    prompt_ms: float = 0.0
    stop: str | None = None
    completion: Completion = field(default_factory=Completion)

    async def whole(self) -> Completion:
        """The completion, before any stop string was looked for."""
        return await self._ask(lambda text: None)

    async def pieces(self) -> AsyncIterator[str]:
        """The first alternative's text in pieces, as it grows. A stop string ends the work."""
        texts: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(self._ask(texts.put_nowait))
        task.add_done_callback(lambda _: texts.put_nowait(None))
        stops, told = Stops(self.stops), 0
        try:
            while (text := await texts.get()) is not None:
                settled = stops.settled(text)
                if len(settled) > told:
                    yield settled[told:]
                    told = len(settled)
                if stops.found is not None:
                    self.stop = stops.found
                    return
            self.completion = await task
            items = self.completion.items
            final = stops.cut(items[0].text if items else "")
            self.stop = stops.found
            if len(final) > told:
                yield final[told:]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def _ask(self, on_text: TextListener) -> Completion:
        def hear(text: str) -> None:
            self.prompt_ms = self.prompt_ms or 1000 * (time.perf_counter() - self.began)
            on_text(text)

        return await answer(self.state, self.api, self.request, hear, latest_wins=False)
