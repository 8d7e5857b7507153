"""From an inline completion request to its answer: rules, cache, context, backend, gate, items.

Nothing here raises and nothing waits for an older request: per document, the latest wins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from fim_model.requests import Completion, CompletionRequest, CompletionStats
from lsprotocol import types as lsp

from fim_server.access.workspace import Workspace
from fim_server.backends.base import Backend, BackendError, Progress
from fim_server.completion.cache import SuggestionCache
from fim_server.completion.debounce import Debounce
from fim_server.completion.gate import Judgement, judge, least_confidence
from fim_server.completion.hole import Hole, budgeted_hole, hole_after_accepting, request_for
from fim_server.completion.in_context import in_context
from fim_server.completion.selected import Target, continuing
from fim_server.completion.silence import Silence
from fim_server.context.gather import Gatherer, Scene
from fim_server.documents.documents import DocumentStore, Snapshot
from fim_server.documents.notebooks import NotebookStore, NotebookView
from fim_server.log import where
from fim_server.settings.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to show, or why nothing: `silence` is None exactly if there are items.

    `cached` tells that no model was asked; then there are no stats. `detail` is the rule behind the
    silence, where there is one; never text of the user.
    """

    items: list[lsp.InlineCompletionItem]
    silence: Silence | None = None
    stats: CompletionStats | None = None
    cached: bool = False
    detail: str = ""


def silent(reason: Silence, stats: CompletionStats | None = None, detail: str = "") -> Answer:
    return Answer([], reason, stats, detail=detail)


@dataclass(frozen=True, slots=True)
class _Question:
    """A request without its context, and the hole that it is about, in a document (a notebook's
    cells are one)."""

    snapshot: Snapshot
    hole: Hole
    request: CompletionRequest


@dataclass(slots=True)
class _Flight:
    """One question the backend is working on; `silence` says why it was stopped, if it was.

    `waiting` counts the requests that get its answer.
    """

    question: _Question
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
        workspace: Workspace | None = None,
        notebooks: NotebookStore | None = None,
        on_trouble: Callable[[str], None] = logger.warning,
    ) -> None:
        """`on_trouble` hears, in one line each, that the backend began to fail and that it is well
        again; not of every failure in between."""
        self._on_trouble = on_trouble
        self._trouble = ""
        self._documents = documents
        self._backend = backend
        self._settings = settings
        self._workspace = workspace or Workspace(settings=settings)
        self._notebooks = notebooks or NotebookStore(documents)
        self._gatherer = Gatherer()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="fim-context")
        self._flights: dict[str, _Flight] = {}
        self._speculations: dict[str, asyncio.Task[None]] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self._cache = SuggestionCache()
        self._debounce = Debounce()
        self._not_ready: Silence | None = Silence.LOADING

    @property
    def ready_backend(self) -> Backend | None:
        """The backend, once it can be asked."""
        return None if self._not_ready is not None else self._backend

    def configure(self, settings: Settings, workspace: Workspace) -> None:
        """Obey other settings, or work in other folders, from the next request on."""
        self._settings = settings
        self._workspace = workspace
        self._cache = SuggestionCache()

    def use_backend(self, backend: Backend) -> Backend:
        """Take another backend, which `start` must make ready; returns the one to close."""
        self._stop_all()
        old, self._backend = self._backend, backend
        self._not_ready = Silence.LOADING
        self._cache = SuggestionCache()
        self._debounce = Debounce()
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
        self._stop_all()
        self._reader.shutdown(wait=False, cancel_futures=True)
        await self._backend.close()

    def _stop_all(self) -> None:
        for flight in self._flights.values():
            flight.stop(Silence.CANCELLED)
        for speculation in self._speculations.values():
            speculation.cancel()

    def forget(self, uri: str) -> None:
        """Drop what was suggested in a document."""
        self._cache.forget(uri)

    def closed(self, uri: str) -> asyncio.Task[None]:
        """Let go of all that was kept for a document; the task frees it in the backend as well."""
        self.forget(uri)
        if flight := self._flights.get(uri):
            flight.stop(Silence.STALE)
        if speculation := self._speculations.pop(uri, None):
            speculation.cancel()
        farewell = asyncio.create_task(self._backend.forget(uri))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        return farewell

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
        selected: lsp.SelectedCompletionInfo | None = None,
    ) -> Answer:
        """The answer to one request; always one, never an exception.

        `version` is the document version the request names, for clients that name one. `selected`
        is the item that is selected in the editor's list: answers continue it, in its range.
        """
        began = time.perf_counter()
        try:
            answer = await self._complete(uri, position, trigger, version, selected)
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
        selected: lsp.SelectedCompletionInfo | None,
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

        settings = self._settings
        invoked = trigger is lsp.InlineCompletionTriggerKind.Invoked
        alternatives = settings.alternatives if invoked else 1
        cursor, target = view.position(snapshot, position), None
        if selected is not None:
            continued = continuing(view, snapshot, position, selected)
            if continued is None:
                return silent(Silence.SELECTED_ITEM_ELSEWHERE)
            view, cursor, target = continued
        hole = budgeted_hole(view.snapshot, cursor, settings)
        known = self._cache.find(view.snapshot.uri, hole, alternatives)
        unsure = known is not None and known.silence is Silence.LOW_CONFIDENCE
        if known is not None and not (invoked and unsure):
            return self._shown(view, hole, target, known, None, cached=True)
        request = request_for(hole, view.snapshot, settings, alternatives)
        question = _Question(view.snapshot, hole, request)
        flight = self._join_or_take_off(uri, question, patient=not invoked)
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
        judgement = self._judged(completion, hole, alternatives, invoked=invoked)
        if completion.items and settings is self._settings:
            self._cache.remember(view.snapshot.uri, hole, judgement, alternatives)
        return self._shown(view, hole, target, judgement, completion.stats)

    def _judged(self, completion: Completion, hole: Hole, most: int, *, invoked: bool) -> Judgement:
        asked, advised = self._settings.min_confidence, completion.show_above
        least = least_confidence(asked, advised, invoked=invoked)
        return judge(completion.items, hole, least, most)

    def _shown(
        self,
        view: NotebookView,
        hole: Hole,
        target: Target | None,
        judgement: Judgement,
        stats: CompletionStats | None,
        *,
        cached: bool = False,
    ) -> Answer:
        """The answer made of a judgement; while it is on the screen, the next one is prepared.

        It goes to the hole's own position, unless a `target` is given.
        """
        if judgement.silence is not None:
            return Answer([], judgement.silence, stats, cached)
        self._speculate(view.snapshot, hole, judgement.texts[0])
        if target is None:
            cursor = lsp.Position(hole.position.line - view.first_line, hole.position.character)
            target = Target(lsp.Range(cursor, cursor))
        return Answer(items_for(target, hole, judgement.texts), None, stats, cached)

    def _join_or_take_off(self, uri: str, question: _Question, *, patient: bool) -> _Flight:
        """The flight that answers this request: the same one under way, or a new one in its place.

        A patient request waits for a pause in the typing first.
        """
        older = self._flights.get(uri)
        if older is not None:
            if older.question.request == question.request and older.silence is None:
                return older
            older.stop(Silence.SUPERSEDED)
        wait = self._debounce.wait(time.monotonic()) if patient else 0.0
        task = asyncio.create_task(self._ask(question, wait))
        flight = self._flights[uri] = _Flight(question, task)
        return flight

    async def _ask(self, question: _Question, wait: float) -> Completion:
        if wait:
            await asyncio.sleep(wait)
        began = time.monotonic()
        completion = await self._backend.complete(await self._in_context(question))
        if completion.items:
            self._debounce.answered(time.monotonic() - began)
            self._recovered()
        return completion

    async def _in_context(self, question: _Question) -> CompletionRequest:
        """The request with what this file and others add to it; looked up in a thread, since files
        may be read."""
        settings, snapshot = self._settings, question.snapshot
        cells = self._notebooks.cells(snapshot.uri)
        others = self._documents.others(snapshot.uri)
        scene = Scene(
            document=snapshot,
            place=question.hole.place,
            others=[one for one in others if one.uri not in cells],
            workspace=self._workspace,
            most=settings.snippets,
            most_chars=settings.snippet_chars,
            copies=settings.copies_from == "project",
        )

        def look() -> CompletionRequest:
            context = self._gatherer.context(scene)
            return in_context(question.request, question.hole, snapshot, context)

        return await asyncio.get_running_loop().run_in_executor(self._reader, look)

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
        accepted, later = hole_after_accepting(snapshot, hole, text, settings)
        if self._cache.find(uri, later, 1) is not None:
            return
        request = replace(request_for(later, accepted, settings, 1), speculative=True)
        if older := self._speculations.get(uri):
            older.cancel()
        question = _Question(accepted, later, request)
        self._speculations[uri] = asyncio.create_task(self._prepare(question))

    async def _prepare(self, question: _Question) -> None:
        settings, hole = self._settings, question.hole
        try:
            completion = await self._backend.complete(await self._in_context(question))
        except BackendError as error:
            logger.info("nothing is prepared: %s", error)
            return
        except Exception as mistake:
            logger.error("nothing is prepared: %s", where(mistake))
            return
        if completion.items and settings is self._settings:
            judgement = self._judged(completion, hole, 1, invoked=False)
            self._cache.remember(question.snapshot.uri, hole, judgement, 1)


def items_for(target: Target, hole: Hole, texts: Iterable[str]) -> list[lsp.InlineCompletionItem]:
    """What the editor is given of trimmed texts, in the document's line ends.

    The range is empty, unless an item in the editor's list is continued: a wider one paints over
    the text right of the cursor in Neovim.
    """
    return [
        lsp.InlineCompletionItem(
            insert_text=target.lead + text.replace("\n", hole.line_end), range=target.span
        )
        for text in texts
    ]


def log_answer(answer: Answer, ms: float) -> None:
    """One line at debug level for every answer, without any of the user's text."""
    if answer.silence is not None:
        why = f"{answer.silence}: {answer.detail}" if answer.detail else str(answer.silence)
        known = ", known already" if answer.cached else ""
        logger.debug("inline completion: nothing (%s%s), %.1f ms", why, known, ms)
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
