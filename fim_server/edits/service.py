"""Next edits for one client: when to search for them, and what became of those that were offered.

Requests never raise. Nothing runs while the user is idle, and typing stops all work.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from math import inf

from fim_model.requests import Rewrite, RewriteRequest

from fim_server.access.workspace import Workspace, file_of
from fim_server.backends.base import Backend, BackendError, Unfit
from fim_server.backends.latest_only import LatestOnly, SharedRun, Stopped
from fim_server.documents.documents import DocumentStore, Snapshot, without_end
from fim_server.edits.history import History, Hunk
from fim_server.edits.next_edit import (
    MAX_TRIES,
    DraftJudge,
    EditContext,
    Gate,
    Proposal,
    proposals,
    ranked,
    unjudged,
)
from fim_server.edits.regions import Problem, Region
from fim_server.edits.rejections import Rejections
from fim_server.log import where
from fim_server.settings.settings import Settings
from fim_server.syntax.interruptible import Allowance, GaveUp

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.35
"""Seconds without typing before edits are pushed to the client (debounce)."""

MAX_OFFERS = 256
"""Offers that can still be accepted or rejected by name."""

MAX_OTHERS = 8
"""Other open documents that are searched."""

RETRY_SECONDS = 10.0
"""Seconds for which a model that failed is not asked to judge: a search asks about many regions."""

MIN_SCORE_ELSEWHERE = 0.0
"""Lowest log-odds of a region in another document, in nats: likelier right than wrong."""


class EditService:
    """The history, the searches and the offers of one client. Belongs to one event loop."""

    def __init__(
        self,
        documents: DocumentStore,
        backend: Callable[[], Backend | None],
        settings: Settings,
        workspace: Workspace,
        push: Callable[[str, Sequence[Proposal]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`backend` returns None until there is one that can be asked. `clock` gives seconds.

        `push` sends a document's proposals to a client that has not requested them; None for
        clients that cannot receive them.
        """
        self.history = History()
        self._push = push
        self._documents, self._backend = documents, backend
        self._settings, self._workspace = settings, workspace
        self._clock = clock
        self._rejections = Rejections()
        self._searches: LatestOnly[SharedRun[list[Proposal]]] = LatestOnly()
        """By document and most proposals. A request is the revision that is searched."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._offers: OrderedDict[str, Proposal] = OrderedDict()
        self._on_screen: dict[str, dict[str, Proposal]] = {}
        self._known: dict[tuple[str, int], tuple[int, list[Proposal]]] = {}
        self._problems: dict[str, tuple[int, list[Problem]]] = {}
        self._judge = DraftJudge(backend, lambda: self._gate)
        self._judge_rests_until = -inf
        self._numbers = 0

    def configure(self, settings: Settings, workspace: Workspace) -> None:
        """Use other settings or workspace folders from the next search on."""
        self._settings, self._workspace = settings, workspace
        self._judge.reset()
        self._judge_rests_until = -inf
        self._known.clear()

    def close(self) -> None:
        for uri in {*self._timers, *(uri for uri, _ in self._searches.keys)}:
            self._stop(uri)

    # What happens to documents.

    def changed(self, before: Snapshot, after: Snapshot) -> None:
        """Stop the searches, and learn what became of the document's offers."""
        self._stop(after.uri)
        self._searches.stop_all("changed")
        shown = self._on_screen.pop(after.uri, {})
        accepted = next((offer for offer in shown.values() if _is_applied(offer, after)), None)
        if accepted is None:
            for proposal in shown.values():
                self._rejections.ignored(proposal)
        self.history.record(before, after, self._clock())
        self._known.clear()
        rest = {} if accepted is None else _still_there(shown, accepted, after)
        if rest:
            # The client steps through a list whose other proposals are still on the screen.
            self._on_screen[after.uri] = rest
        elif self._push is not None and self._settings.next_edits:
            loop = asyncio.get_running_loop()
            self._timers[after.uri] = loop.call_later(PAUSE_SECONDS, self._pause, after.uri)

    def closed(self, uri: str) -> None:
        """Drop all that is kept for a document that was closed or opened anew."""
        self._stop(uri)
        self.history.forget(uri)
        self._on_screen.pop(uri, None)
        self._problems.pop(uri, None)

    def diagnosed(self, uri: str, problems: Sequence[Problem]) -> None:
        """Take the client's diagnostics for some lines of the document as it is now."""
        if snapshot := self._documents.snapshot(uri):
            revision, known = self._problems.get(uri, (-1, []))
            known = known if revision == snapshot.revision else []
            known += [problem for problem in problems if problem not in known]
            self._problems[uri] = snapshot.revision, known
            self._known.clear()

    # What the client asks.

    async def next_edits(
        self, uri: str, line: int, version: int | None = None, limit: int = 1
    ) -> list[Proposal]:
        """At most `limit` proposals after the recent edits, best first; never an exception.

        A single one is searched in the document alone, several in the other open documents as
        well. There is none if `version`, the document version of the request, is not the current.
        """
        try:
            return await self._found(uri, line, version, limit)
        except (asyncio.CancelledError, Stopped):
            return []
        except Exception as mistake:
            logger.error("edit suggestions failed: %s", where(mistake))
        return []

    def offer(self, proposal: Proposal) -> str:
        """The name by which the client accepts or rejects a proposal that is sent to it."""
        shown = self._on_screen.setdefault(proposal.uri, {})
        for name, other in shown.items():
            if (other.first, other.transition) == (proposal.first, proposal.transition):
                return name
        self._numbers += 1
        name = str(self._numbers)
        self._offers[name] = shown[name] = proposal
        if len(self._offers) > MAX_OFFERS:
            self._offers.popitem(last=False)
        return name

    def offered(self, name: object) -> Proposal | None:
        """The proposal offered by this name, if there is one."""
        return self._offers.get(name) if isinstance(name, str) else None

    def current(self, uri: str) -> list[Proposal]:
        """The proposals on the screen that were made for the document as it is now."""
        snapshot = self._documents.snapshot(uri)
        if snapshot is None:
            return []
        shown = self._on_screen.get(uri, {}).values()
        return [offer for offer in shown if offer.snapshot.revision == snapshot.revision]

    def rejected(self, name: str) -> None:
        """Note that the user does not want the proposal offered by this name."""
        if proposal := self._offers.get(name):
            self._rejections.reject(proposal)
            self._on_screen.get(proposal.uri, {}).pop(name, None)
            self._known.clear()

    def context(self, snapshot: Snapshot, line: int) -> EditContext | None:
        """What the model may be asked about a document; None if it must not see the document."""
        workspace = self._workspace
        if self.why_not_show(snapshot) is not None:
            return None
        revision, problems = self._problems.get(snapshot.uri, (-1, []))
        current = problems if revision == snapshot.revision else []
        path = workspace.shown_path(snapshot.uri)
        others = self._neighbours(snapshot)
        adapter = workspace.adapter_of(snapshot.uri)
        hunks = self._hunks(snapshot.uri)
        return EditContext(snapshot, hunks, line, current, path, others, adapter)

    def why_not_show(self, snapshot: Snapshot) -> str | None:
        """Why the model must not see a document; None if it may."""
        if snapshot.language in self._settings.disabled_languages:
            return f"disabledLanguages has {snapshot.language}"
        return self._workspace.why_not_show(snapshot.uri)

    def _neighbours(self, snapshot: Snapshot) -> list[Sequence[str]]:
        """The lines of other open documents in the same language that may be shown."""
        others = self._documents.others(snapshot.uri) if self._workspace.trusted else []
        why_not_show = self._workspace.why_not_show
        return [
            other.lines
            for other in others[:MAX_OTHERS]
            if other.language == snapshot.language and why_not_show(other.uri) is None
        ]

    @property
    def _gate(self) -> Gate:
        return Gate(self._settings.min_edit_gain, self._is_unwanted)

    async def ask(self, request: RewriteRequest) -> Rewrite | None:
        """Ask the backend. Raises BackendError."""
        backend = self._backend()
        if backend is None:
            raise BackendError("the model is not ready")
        return await backend.rewrite(request)

    async def shown(
        self, context: EditContext, where: Sequence[Region], allowance: Allowance, tries: int
    ) -> AsyncIterator[Proposal]:
        """The proposals for the first `tries` regions of a document that are shown; no more of them
        once the CPU time is spent."""
        found = proposals(context, where, self._judged, self._gate, tries, allowance.spend)
        try:
            async for proposal in found:
                yield proposal
        except GaveUp as late:
            logger.info("no more edits are looked for in this text: %s", late)

    async def _judged(self, request: RewriteRequest) -> Rewrite | None:
        """What the model says about a region; nothing while it fails, since the rules know what
        they know without it. Raises Unfit."""
        if self._clock() < self._judge_rests_until:
            return unjudged(request)
        try:
            return await self._judge.ask(request)
        except Unfit:
            raise
        except BackendError as problem:
            logger.info("for %g s the rules alone suggest edits: %s", RETRY_SECONDS, problem)
            self._judge_rests_until = self._clock() + RETRY_SECONDS
            return unjudged(request)

    # Searches.

    async def _found(self, uri: str, line: int, version: int | None, limit: int) -> list[Proposal]:
        """The proposals, known already or searched for. Raises Stopped."""
        snapshot, backend = self._documents.snapshot(uri), self._backend()
        if snapshot is None or backend is None:
            return []
        if version is not None and version != snapshot.version:
            return []
        revision, known = self._known.get((uri, limit), (-1, []))
        if revision == snapshot.revision:
            return known
        key = (uri, limit)
        search = self._searches.join(key, snapshot.revision)
        if search is None:
            work = asyncio.create_task(self._search(snapshot, line, limit))
            search = self._searches.start(SharedRun(key, snapshot.revision, work))
        found = await self._searches.result(search)
        self._known[key] = snapshot.revision, found
        return found

    async def _search(self, snapshot: Snapshot, line: int, limit: int) -> list[Proposal]:
        found: list[Proposal] = []
        tries = MAX_TRIES * (1 if limit == 1 else 2)
        allowance = Allowance()
        for context in self._contexts(snapshot, line, elsewhere=limit > 1):
            where_to_look = await self._regions(context, snapshot.uri, allowance)
            async for proposal in self.shown(context, where_to_look, allowance, tries):
                found.append(proposal)
                if len(found) == limit:
                    return ranked(found, snapshot.uri)
            tries -= len(where_to_look)
            if tries <= 0:
                break
        return ranked(found, snapshot.uri)

    def _contexts(self, snapshot: Snapshot, line: int, *, elsewhere: bool) -> list[EditContext]:
        contexts = [self.context(snapshot, line)]
        if elsewhere and self._workspace.trusted:
            for other in self._documents.others(snapshot.uri)[:MAX_OTHERS]:
                if _is_writable(other):
                    contexts.append(self.context(other, other.edited_line or 0))
        return [context for context in contexts if context is not None and context.hunks]

    async def places(self, snapshot: Snapshot, line: int) -> list[tuple[EditContext, list[Region]]]:
        """The regions to search in a document and, if that is allowed, in the other open ones."""
        contexts = self._contexts(snapshot, line, elsewhere=True)
        allowance = Allowance()
        return [
            (context, await self._regions(context, snapshot.uri, allowance)) for context in contexts
        ]

    async def _regions(self, context: EditContext, uri: str, allowance: Allowance) -> list[Region]:
        """The regions of a document; none once the search has used its CPU time."""
        try:
            found = await allowance.spend(context.regions)
        except GaveUp as late:
            logger.info("no edits are looked for in this text: %s", late)
            return []
        if context.snapshot.uri == uri:
            return found
        return [region for region in found if region.score >= MIN_SCORE_ELSEWHERE]

    def _hunks(self, uri: str) -> list[Hunk]:
        """The recent edits that the model may see: none of an excluded file."""
        shown: dict[str, bool] = {}
        found = []
        for hunk in self.history.recent(self._clock()):
            if hunk.uri != uri and not self._workspace.trusted:
                continue
            if hunk.uri not in shown:
                shown[hunk.uri] = self._workspace.why_not_show(hunk.uri) is None
            if shown[hunk.uri]:
                found.append(hunk)
        return found

    def _is_unwanted(self, proposal: Proposal) -> bool:
        undone = self.history.was_undone(proposal.transition)
        return undone or self._rejections.was_rejected(proposal)

    def _pause(self, uri: str) -> None:
        """Search and push, PAUSE_SECONDS after the last keystroke."""
        self._timers.pop(uri, None)
        if self._push is not None and (snapshot := self._documents.snapshot(uri)):
            line = snapshot.edited_line or 0
            task = asyncio.ensure_future(self.next_edits(uri, line, snapshot.version, MAX_TRIES))
            task.add_done_callback(lambda task: self._push_found(uri, task))

    def _push_found(self, uri: str, task: asyncio.Future[list[Proposal]]) -> None:
        if not task.cancelled() and self._push is not None and (found := task.result()):
            self._push(uri, found)

    def _stop(self, uri: str) -> None:
        if timer := self._timers.pop(uri, None):
            timer.cancel()
        for key in self._searches.keys:
            if key[0] == uri:
                self._searches.stop(key, "changed")


def _is_applied(proposal: Proposal, after: Snapshot) -> bool:
    """Whether the document became exactly what was proposed."""
    grown = len(proposal.new) - len(proposal.old)
    if len(after.lines) != len(proposal.snapshot.lines) + grown:
        return False
    end = proposal.first + len(proposal.new)
    if tuple(map(without_end, after.lines[proposal.first : end])) != proposal.new:
        return False
    return after.lines[end : end + 1] == proposal.snapshot.lines[proposal.end : proposal.end + 1]


def _still_there(
    shown: dict[str, Proposal], accepted: Proposal, after: Snapshot
) -> dict[str, Proposal]:
    """The other proposals, moved to where their lines are after one was applied."""
    grown = len(accepted.new) - len(accepted.old)
    return {
        name: replace(
            proposal,
            snapshot=after,
            first=proposal.first + grown * (proposal.first >= accepted.end),
        )
        for name, proposal in shown.items()
        if proposal is not accepted
    }


def _is_writable(snapshot: Snapshot) -> bool:
    """Whether the user could save a change; documents that are no files can be changed."""
    path = file_of(snapshot.uri)
    if path is None:
        return True
    try:
        # Root may write every file, but one without any write permission is meant to stay as it is.
        return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)
    except OSError:  # it does not exist yet, or no longer, or cannot be reached
        return True
