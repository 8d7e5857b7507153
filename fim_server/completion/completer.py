"""From an inline completion request to its answer: snapshot, hole, backend, trimming, items.

Nothing here raises and nothing waits for an older request: per document, the latest wins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from lsprotocol import types as lsp

from fim_server.backends.base import (
    Backend,
    BackendError,
    Completion,
    CompletionRequest,
    CompletionStats,
    Progress,
)
from fim_server.completion.cache import SuggestionCache
from fim_server.completion.debounce import Debounce
from fim_server.completion.hole import Hole, hole_after_accepting, hole_at, request_for
from fim_server.completion.silence import Silence
from fim_server.completion.trim import trim
from fim_server.documents import DocumentStore, Snapshot
from fim_server.log import where
from fim_server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to show, or why nothing: `silence` is None exactly if there are items.

    `cached` tells that no model was asked; then there are no stats.
    """

    items: list[lsp.InlineCompletionItem]
    silence: Silence | None = None
    stats: CompletionStats | None = None
    cached: bool = False


def silent(reason: Silence, stats: CompletionStats | None = None) -> Answer:
    return Answer([], reason, stats)


@dataclass(slots=True)
class _Flight:
    """One question the backend is working on; `silence` says why it was stopped, if it was.

    `waiting` counts the requests that get its answer.
    """

    request: CompletionRequest
    task: asyncio.Task[Completion]
    silence: Silence | None = None
    waiting: int = field(default=0)

    def stop(self, reason: Silence) -> None:
        self.silence = self.silence or reason
        self.task.cancel()


class Completer:
    """Answers the inline completion requests of one client. Belongs to one event loop."""

    def __init__(
        self,
        documents: DocumentStore,
        backend: Backend,
        settings: Settings,
        on_trouble: Callable[[str], None] = logger.warning,
    ) -> None:
        """`on_trouble` hears, in one line each, that the backend began to fail and that it is well
        again; not of every failure in between."""
        self._on_trouble = on_trouble
        self._trouble = ""
        self._documents = documents
        self._backend = backend
        self._settings = settings
        self._flights: dict[str, _Flight] = {}
        self._speculations: dict[str, asyncio.Task[None]] = {}
        self._cache = SuggestionCache()
        self._debounce = Debounce()
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
        for speculation in self._speculations.values():
            speculation.cancel()
        await self._backend.close()

    def forget(self, uri: str) -> None:
        """Drop what was suggested in a document."""
        self._cache.forget(uri)

    def document_changed(self, uri: str) -> None:
        """Stop what is being computed for a text that is no more."""
        self._debounce.typed(time.monotonic())
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
        known = self._cache.find(uri, hole, alternatives)
        if known is not None:
            return self._shown(snapshot, hole, known, None, cached=True)
        request = request_for(hole, snapshot, self._settings, alternatives)
        flight = self._join_or_take_off(uri, request, patient=not invoked)
        flight.waiting += 1
        try:
            completion = await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            return silent(flight.silence or Silence.CANCELLED)
        except BackendError as error:
            self._failed(error)
            return silent(Silence.BACKEND_ERROR)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
            if not flight.waiting and self._flights.get(uri) is flight:
                del self._flights[uri]

        if flight.silence is not None:
            return silent(flight.silence, completion.stats)
        if not completion.items:
            return silent(Silence.NOTHING_WRITTEN, completion.stats)
        texts = trimmed(hole, (item.text for item in completion.items))
        self._cache.remember(uri, hole, texts, alternatives)
        return self._shown(snapshot, hole, texts, completion.stats)

    def _shown(
        self,
        snapshot: Snapshot,
        hole: Hole,
        texts: list[str],
        stats: CompletionStats | None,
        *,
        cached: bool = False,
    ) -> Answer:
        """The answer made of trimmed texts; while it is on the screen, the next one is prepared."""
        if not texts:
            return Answer([], Silence.NOTHING_LEFT_AFTER_TRIMMING, stats, cached)
        self._speculate(snapshot, hole, texts[0])
        return Answer(items_for(hole, texts), None, stats, cached)

    def _join_or_take_off(self, uri: str, request: CompletionRequest, *, patient: bool) -> _Flight:
        """The flight that answers this request: the same one under way, or a new one in its place.

        A patient request waits for a pause in the typing first.
        """
        older = self._flights.get(uri)
        if older is not None:
            if older.request == request and older.silence is None:
                return older
            older.stop(Silence.SUPERSEDED)
        wait = self._debounce.wait(time.monotonic()) if patient else 0.0
        task = asyncio.create_task(self._ask(request, wait))
        flight = self._flights[uri] = _Flight(request, task)
        return flight

    async def _ask(self, request: CompletionRequest, wait: float) -> Completion:
        if wait:
            await asyncio.sleep(wait)
        began = time.monotonic()
        completion = await self._backend.complete(request)
        if completion.items:
            self._debounce.answered(time.monotonic() - began)
            self._recovered()
        return completion

    def _failed(self, error: BackendError) -> None:
        logger.info("%s", error)
        if not self._trouble:
            self._on_trouble(str(error))
        self._trouble = str(error)

    def _recovered(self) -> None:
        if self._trouble:
            self._on_trouble("completions work again")
        self._trouble = ""

    def _speculate(self, snapshot: Snapshot, hole: Hole, text: str) -> None:
        """Ask, at low priority, for what could come after `text` if it is accepted."""
        if not self._settings.speculates:
            return
        settings, uri = self._settings, snapshot.uri
        accepted, later = hole_after_accepting(
            snapshot, hole, text, settings.prefix_chars, settings.suffix_chars
        )
        if self._cache.find(uri, later, 1) is not None:
            return
        request = replace(request_for(later, accepted, settings, 1), speculative=True)
        if older := self._speculations.get(uri):
            older.cancel()
        self._speculations[uri] = asyncio.create_task(self._prepare(uri, later, request))

    async def _prepare(self, uri: str, hole: Hole, request: CompletionRequest) -> None:
        try:
            completion = await self._backend.complete(request)
        except BackendError as error:
            logger.info("nothing is prepared: %s", error)
            return
        except Exception as mistake:
            logger.error("nothing is prepared: %s", where(mistake))
            return
        if completion.items:
            texts = trimmed(hole, (item.text for item in completion.items))
            self._cache.remember(uri, hole, texts, 1)


def trimmed(hole: Hole, texts: Iterable[str]) -> list[str]:
    """What is worth showing of a model's texts: trimmed, none twice, none empty."""
    worth = (trim(text, hole.before, hole.after) for text in texts)
    return [text for text in dict.fromkeys(worth) if text]


def items_for(hole: Hole, texts: Iterable[str]) -> list[lsp.InlineCompletionItem]:
    """What the editor is given of trimmed texts, in the document's line ends.

    The range is empty: a wider one paints over the text right of the cursor in Neovim.
    """
    cursor = lsp.Range(hole.position, hole.position)
    return [
        lsp.InlineCompletionItem(insert_text=text.replace("\n", hole.line_end), range=cursor)
        for text in texts
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
