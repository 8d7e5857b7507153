"""From an inline completion request to its answer: accept, known already, ask, gate, show.

`_complete` is that path from top to bottom. Requests never raise and never wait for an older one:
per document, the latest wins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fim_model.requests import Completion, CompletionRequest
from lsprotocol import types as lsp

from fim_server.access.workspace import Workspace
from fim_server.backends.base import Backend, BackendError, Progress
from fim_server.backends.latest_only import LatestOnly, SharedRun, Stopped
from fim_server.completion.active_backend import ActiveBackend
from fim_server.completion.answer import Answer, items_for, log_answer, silent
from fim_server.completion.cache import SuggestionCache
from fim_server.completion.debounce import Debounce
from fim_server.completion.evidence import Surroundings
from fim_server.completion.gate import (
    Judgement,
    confidence_threshold,
    judge,
    judge_context,
    weigher,
)
from fim_server.completion.hole import (
    Hole,
    budgeted_hole,
    hole_after_accepting,
    is_prose,
    request_for,
)
from fim_server.completion.in_context import ContextReader
from fim_server.completion.right_side import Fit
from fim_server.completion.selected import Target, continuing
from fim_server.completion.silence import DOUBTS, Silence
from fim_server.documents.documents import DocumentStore, Snapshot
from fim_server.documents.notebooks import NotebookStore, NotebookView
from fim_server.log import where
from fim_server.settings.settings import Settings

logger = logging.getLogger(__name__)

BEAM = 3
"""Texts of which one is chosen where the likeliest would not parse."""


@dataclass(frozen=True, slots=True)
class _Question:
    """An accepted request: the hole at its cursor, in a document (a notebook's cells are one).

    `uri` is the document that the client named, such as a cell. Answers go to `target`.
    """

    uri: str
    snapshot: Snapshot
    hole: Hole
    target: Target
    alternatives: int
    invoked: bool


@dataclass(frozen=True, slots=True)
class _Reply:
    """A completion, and the text around the hole that it was asked for."""

    completion: Completion
    around: Surroundings


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
        *,
        replaces_rest: bool = False,
    ) -> None:
        """`on_trouble` is given one line when the backend begins to fail, and one when it works
        again. `replaces_rest`: whether the client shows items that replace the rest of the line.
        """
        self._replaces_rest = replaces_rest
        self._active = ActiveBackend(backend, on_trouble)
        self._documents = documents
        self._settings = settings
        self._workspace = workspace or Workspace(settings=settings)
        self._notebooks = notebooks or NotebookStore(documents)
        self._context = ContextReader(documents, self._notebooks)
        self._cache = SuggestionCache(replaces=replaces_rest)
        self._debounce = Debounce()
        self._asked: LatestOnly[SharedRun[_Reply]] = LatestOnly(Silence.SUPERSEDED)
        self._speculations: LatestOnly[SharedRun[None]] = LatestOnly()
        self._forgetting: set[asyncio.Task[None]] = set()
        self._adapted: set[str] = set()

    # One completion, from top to bottom.

    async def complete(
        self,
        uri: str,
        position: lsp.Position,
        trigger: lsp.InlineCompletionTriggerKind,
        version: int | None = None,
        selected: lsp.SelectedCompletionInfo | None = None,
    ) -> Answer:
        """The answer to one request; always one, never an exception.

        `version` is the document version that the request names, for clients that name one.
        `selected` is the item selected in the editor's list: answers continue it, in its range.
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
        """The answer, by six steps: accept, anything to go on, known already, ask, gate, show."""
        question = self._accept(uri, position, trigger, version, selected)
        if isinstance(question, Answer):
            return question

        if (silence := judge_context(question.hole)) is not None:
            return silent(silence)

        if (known := self._known(question)) is not None:
            return self._show(question, known, cached=True)

        settings = self._settings
        try:
            completion, judgement = await self._asked_and_judged(question)
        except Stopped as stopped:
            return silent(Silence(stopped.reason))
        except BackendError as error:
            self._active.failed(error)
            return silent(Silence.BACKEND_ERROR, str(error))

        self._note_adapter(question.uri, completion)
        if completion.items and settings is self._settings:
            uri = question.snapshot.uri
            self._cache.remember(uri, question.hole, judgement, question.alternatives)
        return self._show(question, judgement, completion)

    def _accept(
        self,
        uri: str,
        position: lsp.Position,
        trigger: lsp.InlineCompletionTriggerKind,
        version: int | None,
        selected: lsp.SelectedCompletionInfo | None,
    ) -> _Question | Answer:
        """What is asked, or the silent answer to a request that must not reach the model."""
        if self._active.not_ready is not None:
            return silent(self._active.not_ready)
        snapshot = self._documents.snapshot(uri)
        if snapshot is None:
            return silent(Silence.UNKNOWN_DOCUMENT)
        if version is not None and version != snapshot.version:
            return silent(Silence.STALE)
        if snapshot.language in self._settings.disabled_languages:
            return silent(Silence.LANGUAGE_DISABLED, snapshot.language)
        view = self._notebooks.around(snapshot) or NotebookView(snapshot, 0)
        if rule := self._workspace.why_not_show(view.snapshot.uri):
            return silent(Silence.EXCLUDED, rule)

        cursor, target = view.position(snapshot, position), None
        if selected is not None:
            continued = continuing(view, snapshot, position, selected)
            if continued is None:
                return silent(Silence.SELECTED_ITEM_ELSEWHERE)
            view, cursor, target = continued
        hole = budgeted_hole(view.snapshot, cursor, self._settings)
        if target is None:
            here = lsp.Position(hole.position.line - view.first_line, hole.position.character)
            target = Target(lsp.Range(here, here))
        invoked = trigger is lsp.InlineCompletionTriggerKind.Invoked
        alternatives = self._settings.alternatives if invoked else 1
        return _Question(uri, view.snapshot, hole, target, alternatives, invoked)

    def _known(self, question: _Question) -> Judgement | None:
        """What the type-through cache answers, None if the model must be asked.

        An explicit request asks again where an automatic one was not confident enough.
        """
        known = self._cache.find(question.snapshot.uri, question.hole, question.alternatives)
        if known is None or (question.invoked and known.silence in DOUBTS):
            return None
        return known

    async def _asked_and_judged(self, question: _Question) -> tuple[Completion, Judgement]:
        """The backend's completion and what the gate makes of it.

        Where nothing would be shown because the likeliest text would not parse, the next ones are
        asked for. Raises Stopped, with a Silence as its reason, and BackendError.
        """
        limit, invoked = question.alternatives, question.invoked
        reply = await self._ask(question, limit)
        judgement = self._gate(reply, question.hole, limit, invoked=invoked)
        if judgement.silence is Silence.WOULD_NOT_PARSE and limit < BEAM:
            wider = await self._ask(question, BEAM)
            found = self._gate(wider, question.hole, limit, invoked=invoked)
            if found.silence is None:
                return wider.completion, found
        return reply.completion, judgement

    async def _ask(self, question: _Question, alternatives: int) -> _Reply:
        """The backend's reply, shared with an equal request that is under way already.

        Raises Stopped, with a Silence as its reason, and BackendError.
        """
        snapshot, hole = question.snapshot, question.hole
        request = request_for(hole, snapshot, self._settings, alternatives)
        run = self._asked.join(question.uri, request)
        if run is None:
            # An explicit request does not wait for a pause in the typing, nor a second one.
            again = alternatives > question.alternatives
            wait = 0.0 if question.invoked or again else self._debounce.wait(time.monotonic())
            work = asyncio.create_task(self._ask_backend(request, hole, snapshot, wait))
            run = self._asked.start(SharedRun(question.uri, request, work))
        return await self._asked.result(run)

    async def _ask_backend(
        self, request: CompletionRequest, hole: Hole, snapshot: Snapshot, wait: float
    ) -> _Reply:
        """The reply, asked for after `wait` seconds (the debounce)."""
        if wait:
            await asyncio.sleep(wait)
        began = time.monotonic()
        reply = await self._complete_in_context(request, hole, snapshot)
        if reply.completion.items:
            self._debounce.answered(time.monotonic() - began)
            self._active.succeeded()
        return reply

    async def _complete_in_context(
        self, request: CompletionRequest, hole: Hole, snapshot: Snapshot
    ) -> _Reply:
        settings, workspace = self._settings, self._workspace
        request = replace(request, adapter=workspace.adapter_of(snapshot.uri))
        read = await self._context.read(request, hole, snapshot, settings, workspace)
        return _Reply(await self._active.backend.complete(read.request), read.around)

    def _gate(self, reply: _Reply, hole: Hole, limit: int, *, invoked: bool) -> Judgement:
        completion, weigh = reply.completion, weigher(reply.completion, reply.around)
        gentle = not invoked and is_prose(hole, hole.language)
        threshold = confidence_threshold(
            self._settings.min_confidence,
            completion.show_above if weigh is None else weigh.gate.show_above,
            invoked=invoked,
            prose=self._settings.prose_confidence if gentle else 0.0,
        )
        replaces = self._replaces_rest
        return judge(completion.items, hole, threshold, limit, replaces=replaces, weigh=weigh)

    def _show(
        self,
        question: _Question,
        judgement: Judgement,
        completion: Completion | None = None,
        *,
        cached: bool = False,
    ) -> Answer:
        """The answer made of a judgement; while it is on the screen, the next one is prepared."""
        stats = completion.stats if completion else None
        if judgement.silence is not None:
            return Answer([], judgement.silence, stats, cached, about=judgement.about)
        self._speculate(question.snapshot, question.hole, judgement.fits[0])
        items = items_for(question.target, judgement.fits, question.snapshot, question.hole)
        return Answer(items, None, stats, cached)

    # The completion after the one that is shown.

    def _speculate(self, snapshot: Snapshot, hole: Hole, fit: Fit) -> None:
        """Ask, at low priority, for what could come after a text if it is accepted."""
        if not self._settings.speculates:
            return
        settings, uri = self._settings, snapshot.uri
        accepted, later = hole_after_accepting(snapshot, hole, fit.text, settings, fit.over)
        if self._cache.find(uri, later, 1) is not None:
            return
        request = replace(request_for(later, accepted, settings, 1), speculative=True)
        if self._speculations.join(uri, request) is None:
            work = asyncio.create_task(self._prepare(request, later, accepted))
            self._speculations.detach(self._speculations.start(SharedRun(uri, request, work)))

    async def _prepare(self, request: CompletionRequest, hole: Hole, snapshot: Snapshot) -> None:
        """Put the answer to a speculative request into the cache."""
        settings = self._settings
        try:
            reply = await self._complete_in_context(request, hole, snapshot)
        except BackendError as error:
            logger.info("speculation failed: %s", error)
            return
        except Exception as mistake:
            logger.error("speculation failed: %s", where(mistake))
            return
        if reply.completion.items and settings is self._settings:
            judgement = self._gate(reply, hole, 1, invoked=False)
            self._cache.remember(snapshot.uri, hole, judgement, 1)

    # What happens to the backend, the settings and the documents.

    @property
    def ready_backend(self) -> Backend | None:
        """The backend, None until it can be asked."""
        return self._active.backend if self._active.not_ready is None else None

    async def start(self, progress: Progress) -> None:
        """Make the backend ready; until then every answer is silent. Raises BackendError."""
        await self._active.start(progress)

    def use_backend(self, backend: Backend) -> Backend:
        """Take another backend, which `start` must make ready; returns the one to close."""
        self._stop_all()
        self._adapted = set()
        self._cache = SuggestionCache(replaces=self._replaces_rest)
        self._debounce = Debounce()
        return self._active.replace(backend)

    def adapted(self, uri: str) -> bool:
        """Whether a document's last answer from the model was with what was learned from its
        workspace."""
        return uri in self._adapted

    def _note_adapter(self, uri: str, completion: Completion) -> None:
        if completion.adapter:
            self._adapted.add(uri)
        elif completion.items:  # without any, the request was cancelled
            self._adapted.discard(uri)

    def configure(self, settings: Settings, workspace: Workspace) -> None:
        """Use other settings or workspace folders from the next request on."""
        self._settings = settings
        self._workspace = workspace
        self._cache = SuggestionCache(replaces=self._replaces_rest)
        # What they prepare would not be cached, so the next ones must not join them.
        self._speculations.stop_all(Silence.CANCELLED)

    def document_changed(self, uri: str) -> None:
        """Stop the request for a text that no longer exists."""
        self._debounce.typed(time.monotonic())
        self._asked.stop(uri, Silence.STALE)

    def closed(self, uri: str) -> asyncio.Task[None]:
        """Drop all that is kept for a document; the returned task does so in the backend."""
        self._adapted.discard(uri)
        self._cache.forget(uri)
        self._asked.stop(uri, Silence.STALE)
        self._speculations.stop(uri, Silence.STALE)
        forgetting = asyncio.create_task(self._active.backend.forget(uri))
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._forgetting.discard)
        return forgetting

    def forget(self, uri: str) -> None:
        """Drop the suggestions made in a document."""
        self._cache.forget(uri)

    async def close(self) -> None:
        """Stop all work and release the backend."""
        self._stop_all()
        self._context.close()
        await self._active.backend.close()

    def _stop_all(self) -> None:
        self._asked.stop_all(Silence.CANCELLED)
        self._speculations.stop_all(Silence.CANCELLED)
