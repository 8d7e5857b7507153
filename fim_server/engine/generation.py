"""A completion for the foreign APIs: stop strings, streamed text, and the time of the prefill."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from fim_model.prompt.suffix_head import SuffixHead
from fim_model.requests import ChatRequest, Completion, CompletionRequest

from fim_server.backends.base import TextListener
from fim_server.engine.native_api import answer
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Stops, listening


@dataclass(slots=True)
class Generation:
    """A running request of a foreign API.

    Requests of these clients queue: a newer one does not cancel an older one. `stop` is the stop
    string that ended the text. `completion` stays empty if a stop string ended the work.
    """

    state: EngineState
    api: str
    request: CompletionRequest | ChatRequest
    stops: Sequence[str] = ()
    began: float = field(default_factory=time.perf_counter)
    prompt_ms: float = 0.0
    stop: str | None = None
    completion: Completion = field(default_factory=Completion)

    async def whole(self) -> Completion:
        """The completion, not yet cut at a stop string."""
        return await self._ask(lambda text: None)

    async def pieces(self) -> AsyncIterator[str]:
        """The first alternative's text in pieces, as it grows; a stop string ends the work."""
        stops, sent = Stops(self.stops), 0
        request = self.request
        head = SuffixHead(request.suffix if isinstance(request, CompletionRequest) else "")
        async with listening(self._ask) as (texts, done):
            async for text in texts:
                settled = head.settled(stops.settled(text))
                if len(settled) > sent:
                    yield settled[sent:]
                    sent = len(settled)
                if stops.found is not None:
                    self.stop = stops.found
                    return
            self.completion = await done
            items = self.completion.items
            final = stops.cut(items[0].text if items else "")
            self.stop = stops.found
            if len(final) > sent:
                yield final[sent:]

    async def _ask(self, on_text: TextListener) -> Completion:
        def hear(text: str) -> None:
            self.prompt_ms = self.prompt_ms or 1000 * (time.perf_counter() - self.began)
            on_text(text)

        return await answer(self.state, self.api, self.request, hear, latest_wins=False)
