"""From an inline completion request to its answer: snapshot, hole, backend, trimming, items.

Nothing here raises and nothing waits for an older request: per document, the latest wins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lsprotocol import types as lsp

from fim_server.backends.base import Backend, BackendError, Completion, CompletionStats, Progress
from fim_server.completion.hole import Hole, hole_at, request_for
from fim_server.completion.silence import Silence
from fim_server.completion.trim import trim
from fim_server.documents import DocumentStore
from fim_server.log import where
from fim_server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to show, or why nothing: `silence` is None exactly if there are items."""

    items: list[lsp.InlineCompletionItem]
    silence: Silence | None = None
    stats: CompletionStats | None = None


def silent(reason: Silence, stats: CompletionStats | None = None) -> Answer:
    return Answer([], reason, stats)


@dataclass(slots=True)
class _Flight:
    """One question the backend is working on; `silence` says why it was stopped, if it was."""

    task: asyncio.Task[Completion]
    silence: Silence | None = None

    def stop(self, reason: Silence) -> None:
        self.silence = self.silence or reason
        self.task.cancel()


class Completer:
    """Answers the inline completion requests of one client. Belongs to one event loop."""

    def __init__(self, documents: DocumentStore, backend: Backend, settings: Settings) -> None:
        self._documents = documents
        self._backend = backend
        self._settings = settings
        self._flights: dict[str, _Flight] = {}
        self._not_ready: Silence | None = Silence.LOADING

    async def start(self, progress: Progress) -> None:
        """Make the backend ready; until then every answer is silent. Raises BackendError."""
        try:
            await self._backend.start(progress)
        except BackendError:
            self._not_ready = Silence.NO_MODEL
            raise
        except Exception as mistake:
            self._not_ready = Silence.NO_MODEL
            raise BackendError(f"the model could not be loaded ({where(mistake)})") from mistake
        self._not_ready = None

    async def close(self) -> None:
        """Stop all work and release the backend."""
        for flight in self._flights.values():
            flight.stop(Silence.CANCELLED)
        await self._backend.close()

    def document_changed(self, uri: str) -> None:
        """Stop what is being computed for a text that is no more."""
        if flight := self._flights.get(uri):
            flight.stop(Silence.STALE)

    async def complete(
        self,
        uri: str,
        position: lsp.Position,
        trigger: lsp.InlineCompletionTriggerKind,
        version: int | None = None,
    ) -> Answer:
        """The answer to one request; always one, never an exception.

        `version` is the document version the request names, for clients that name one.
        """
        began = time.perf_counter()
        try:
            answer = await self._complete(uri, position, trigger, version)
        except asyncio.CancelledError:
            answer = silent(Silence.CANCELLED)
        except Exception as mistake:
            logger.error("inline completion failed: %s", where(mistake))
            answer = silent(Silence.INTERNAL_ERROR)
        log_answer(answer, 1000 * (time.perf_counter() - began))
        return answer

    async def _complete(
        self,
        uri: str,
        position: lsp.Position,
        trigger: lsp.InlineCompletionTriggerKind,
        version: int | None,
    ) -> Answer:
        if self._not_ready is not None:
            return silent(self._not_ready)
        snapshot = self._documents.snapshot(uri)
        if snapshot is None:
            return silent(Silence.UNKNOWN_DOCUMENT)
        if version is not None and version != snapshot.version:
            return silent(Silence.STALE)

        invoked = trigger is lsp.InlineCompletionTriggerKind.Invoked
        alternatives = self._settings.alternatives if invoked else 1
        hole = hole_at(snapshot, position, self._settings.prefix_chars, self._settings.suffix_chars)
        request = request_for(hole, snapshot, self._settings, alternatives)
        flight = self._take_off(uri, asyncio.ensure_future(self._backend.complete(request)))
        try:
            completion = await flight.task
        except asyncio.CancelledError:
            return silent(flight.silence or Silence.CANCELLED)
        except BackendError as error:
            logger.warning("%s", error)
            return silent(Silence.BACKEND_ERROR)
        finally:
            if self._flights.get(uri) is flight:
                del self._flights[uri]

        if flight.silence is not None:
            return silent(flight.silence, completion.stats)
        if not completion.items:
            return silent(Silence.NOTHING_WRITTEN, completion.stats)
        items = items_for(hole, (item.text for item in completion.items))
        if not items:
            return silent(Silence.NOTHING_LEFT_AFTER_TRIMMING, completion.stats)
        return Answer(items, None, completion.stats)

    def _take_off(self, uri: str, task: asyncio.Task[Completion]) -> _Flight:
        if older := self._flights.get(uri):
            older.stop(Silence.SUPERSEDED)
        flight = self._flights[uri] = _Flight(task)
        return flight


def items_for(hole: Hole, texts: Iterable[str]) -> list[lsp.InlineCompletionItem]:
    """What the editor is given: trimmed, without repetitions, in the document's line ends.

    The range is empty: a wider one paints over the text right of the cursor in Neovim.
    """
    trimmed = (trim(text, hole.before, hole.after) for text in texts)
    cursor = lsp.Range(hole.position, hole.position)
    return [
        lsp.InlineCompletionItem(insert_text=text.replace("\n", hole.line_end), range=cursor)
        for text in dict.fromkeys(trimmed)
        if text
    ]


def log_answer(answer: Answer, ms: float) -> None:
    """One line at debug level for every answer, without any of the user's text."""
    if answer.silence is not None:
        logger.debug("inline completion: nothing (%s), %.1f ms", answer.silence, ms)
    elif answer.stats is None:
        logger.debug("inline completion: %d items, %.1f ms", len(answer.items), ms)
    else:
        logger.debug(
            "inline completion: %d items, %.1f ms (%s, %d forwards, %d tokens)",
            len(answer.items),
            ms,
            answer.stats.mode,
            answer.stats.forwards,
            answer.stats.tokens,
        )
