"""From an inline completion request to its answer: rules, context, backend, gate, items.

Nothing here raises and nothing waits for an older request: per document, the latest wins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from lsprotocol import types as lsp

from fim_server.backends.base import (
    Backend,
    BackendError,
    Completion,
    CompletionItem,
    CompletionStats,
    Progress,
    Snippet,
)
from fim_server.completion.gate import judge
from fim_server.completion.hole import Hole, budgeted_hole, request_for
from fim_server.completion.silence import Silence
from fim_server.context.gather import Gatherer, Scene
from fim_server.context.workspace import Workspace
from fim_server.documents import DocumentStore, Snapshot
from fim_server.log import where
from fim_server.notebooks import NotebookStore, NotebookView
from fim_server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to show, or why nothing: `silence` is None exactly if there are items.

    `detail` is the rule behind the silence, where there is one; never text of the user.
    """

    items: list[lsp.InlineCompletionItem]
    silence: Silence | None = None
    stats: CompletionStats | None = None
    detail: str = ""


def silent(reason: Silence, stats: CompletionStats | None = None, detail: str = "") -> Answer:
    return Answer([], reason, stats, detail)


@dataclass(slots=True)
class _Flight:
    """One question the backend is working on; `silence` says why it was stopped, if it was."""

    task: asyncio.Task[tuple[Hole, Completion]]
    silence: Silence | None = None

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
        workspace: Workspace | None = None,
        notebooks: NotebookStore | None = None,
    ) -> None:
        self._documents = documents
        self._backend = backend
        self._settings = settings
        self._workspace = workspace or Workspace(settings=settings)
        self._notebooks = notebooks or NotebookStore(documents)
        self._gatherer = Gatherer()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="fim-context")
        self._flights: dict[str, _Flight] = {}
        self._not_ready: Silence | None = Silence.LOADING

    def configure(self, settings: Settings, workspace: Workspace) -> None:
        """Obey other settings, or work in other folders, from the next request on."""
        self._settings = settings
        self._workspace = workspace

    def use_backend(self, backend: Backend) -> Backend:
        """Take another backend, which `start` must make ready; returns the one to close."""
        old, self._backend = self._backend, backend
        self._not_ready = Silence.LOADING
        for flight in self._flights.values():
            flight.stop(Silence.CANCELLED)
        return old

    async def start(self, progress: Progress) -> None:
        """Make the backend ready; until then every answer is silent. Raises BackendError."""
        backend = self._backend
        try:
            await backend.start(progress)
        except BackendError:
            self._not_ready = Silence.NO_MODEL
            raise
        except Exception as mistake:
            self._not_ready = Silence.NO_MODEL
            raise BackendError(f"the model could not be loaded ({where(mistake)})") from mistake
        if backend is self._backend:
            self._not_ready = None

    async def close(self) -> None:
        """Stop all work and release the backend."""
        for flight in self._flights.values():
            flight.stop(Silence.CANCELLED)
        self._reader.shutdown(wait=False, cancel_futures=True)
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

        if snapshot.language in self._settings.disabled_languages:
            return silent(Silence.LANGUAGE_DISABLED, detail=snapshot.language)
        view = self._notebooks.around(snapshot) or NotebookView(snapshot, 0)
        if rule := self._workspace.why_not_show(view.snapshot.uri):
            return silent(Silence.EXCLUDED, detail=rule)

        invoked = trigger is lsp.InlineCompletionTriggerKind.Invoked
        alternatives = self._settings.alternatives if invoked else 1
        min_confidence = self._settings.min_confidence
        # Past a cell's end is that end, and not the next cell.
        position = snapshot.position(snapshot.place(position))
        question = self._ask(view, position, alternatives)
        flight = self._take_off(uri, asyncio.ensure_future(question))
        try:
            hole, completion = await flight.task
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
        judgement = judge(completion.items, hole, min_confidence)
        if judgement.silence is not None:
            return silent(judgement.silence, completion.stats)
        return Answer(items_for(hole, judgement.items), None, completion.stats)

    async def _ask(
        self, view: NotebookView, position: lsp.Position, alternatives: int
    ) -> tuple[Hole, Completion]:
        """The hole with all that the model is shown, and what the backend makes of it."""
        settings, snapshot = self._settings, view.snapshot
        position = lsp.Position(position.line + view.first_line, position.character)
        snippets = await self._snippets(snapshot, position)
        hole = budgeted_hole(snapshot, position, settings, snippets)
        request = request_for(hole, snapshot, settings, alternatives, snippets)
        cursor = hole.position
        cell_cursor = lsp.Position(cursor.line - view.first_line, cursor.character)
        return replace(hole, position=cell_cursor), await self._backend.complete(request)

    async def _snippets(self, snapshot: Snapshot, position: lsp.Position) -> tuple[Snippet, ...]:
        """Pieces of other files; chosen in a thread, since files may be read for them."""
        settings = self._settings
        if not settings.snippets or not self._workspace.trusted:
            return ()
        scene = Scene(
            document=snapshot,
            place=snapshot.place(position),
            others=self._others(snapshot.uri),
            workspace=self._workspace,
            most=settings.snippets,
            most_chars=settings.snippet_chars,
        )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._gatherer.snippets, scene)

    def _others(self, uri: str) -> list[Snapshot]:
        """The other open documents; a notebook's own cells are part of it."""
        cells = self._notebooks.cells(uri)
        return [one for one in self._documents.others(uri) if one.uri not in cells]

    def _take_off(self, uri: str, task: asyncio.Task[tuple[Hole, Completion]]) -> _Flight:
        if older := self._flights.get(uri):
            older.stop(Silence.SUPERSEDED)
        flight = self._flights[uri] = _Flight(task)
        return flight


def items_for(hole: Hole, items: Iterable[CompletionItem]) -> list[lsp.InlineCompletionItem]:
    """What the editor is given, in the document's line ends.

    The range is empty: a wider one paints over the text right of the cursor in Neovim.
    """
    cursor = lsp.Range(hole.position, hole.position)
    return [
        lsp.InlineCompletionItem(insert_text=item.text.replace("\n", hole.line_end), range=cursor)
        for item in items
    ]


def log_answer(answer: Answer, ms: float) -> None:
    """One line at debug level for every answer, without any of the user's text."""
    if answer.silence is not None:
        why = f"{answer.silence}: {answer.detail}" if answer.detail else str(answer.silence)
        logger.debug("inline completion: nothing (%s), %.1f ms", why, ms)
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
