"""A completion for the foreign APIs: stop strings, a time limit, streamed text, and the time of the
prefill."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from fim_model.prompt.suffix_head import SuffixHead
from fim_model.requests import ChatRequest, Completion, CompletionItem, CompletionRequest

from fim_server.backends.base import TextListener
from fim_server.engine.native_api import answer
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Stops, listening


@dataclass(slots=True)
class Generation:
    """A running request of a foreign API.

    Requests of these clients queue: a newer one does not cancel an older one. `stop` is the stop
    string that ended the text. `completion` stays empty if a stop string ended the work.

    `limit_ms` is llama.cpp's time limit, 0 for none: a text that has a line end goes on for no more
    than so many milliseconds after its first token. The answer is what is there then, without
    figures of what it cost.
    """

    state: EngineState
    api: str
    request: CompletionRequest | ChatRequest
    stops: Sequence[str] = ()
    limit_ms: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    prompt_ms: float = 0.0
    stop: str | None = None
    completion: Completion = field(default_factory=Completion)
    _late: str | None = None

    async def whole(self) -> Completion:
        """The completion, not yet cut at a stop string."""
        if not self.limit_ms:
            return await self._ask(lambda text: None)
        async with listening(self._ask) as (texts, done):
            async for text in texts:
                if text is self._late:
                    return self._limited(text)
            return await done

    async def pieces(self) -> AsyncIterator[str]:
        """The first alternative's text in pieces, as it grows; a stop string ends the work."""
        stops, head, sent = Stops(self.stops), self._head(), 0
        async with listening(self._ask) as (texts, done):
            async for text in texts:
                if text is self._late:
                    self.completion = self._limited(text)
                    break
                settled = head.settled(stops.settled(text))
                if len(settled) > sent:
                    yield settled[sent:]
                    sent = len(settled)
                if stops.found is not None:
                    self.stop = stops.found
                    return
            else:
                self.completion = await done
            items = self.completion.items
            final = stops.cut(items[0].text if items else "")
            self.stop = stops.found
            if len(final) > sent:
                yield final[sent:]

    def _head(self) -> SuffixHead:
        request = self.request
        return SuffixHead(request.suffix if isinstance(request, CompletionRequest) else "")

    def _limited(self, text: str) -> Completion:
        """What there is of a text that the time limit ended."""
        return Completion([CompletionItem(self._head().settled(text), 0.0, finish="length")])

    async def _ask(self, on_text: TextListener) -> Completion:
        def hear(text: str) -> None:
            if self._late is not None:  # over, though not yet cancelled
                return
            ms = 1000 * (time.perf_counter() - self.began)
            self.prompt_ms = self.prompt_ms or ms
            if self.limit_ms and ms - self.prompt_ms > self.limit_ms and "\n" in text:
                self._late = text
            on_text(text)

        return await answer(self.state, self.api, self.request, hear, latest_wins=False)
