"""Code actions: which are offered costs nothing, and what they change is computed on resolve.

Every action is of one version of its documents. Its edit names that version, so that a client
refuses it for any other, and to resolve it for any other is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lsprotocol import types as lsp

from fim_server.backends.base import Backend
from fim_server.completion.gate import judge
from fim_server.completion.hole import budgeted_hole, request_for
from fim_server.completion.in_context import in_context
from fim_server.documents.documents import DocumentStore, Snapshot
from fim_server.edits.history import past_edits
from fim_server.edits.next_edit import MOST_EDITS, Proposal, proposals, ranked, revised
from fim_server.edits.regions import Problem, Region
from fim_server.edits.service import EditService
from fim_server.settings.settings import Settings

KIND = lsp.CodeActionKind.RefactorRewrite
MOST_SELECTED_LINES = 6
"""A longer selection is revised in pieces of so many lines."""

MOST_PIECES = 8
MOST_OCCURRENCES = 40


class Deed(StrEnum):
    """What an action does; the name travels in its data."""

    REVISE = "revise"
    COMPLETE = "complete"
    NEXT = "next"
    ALL = "all"


TITLES = {
    Deed.REVISE: "Revise the selection",
    Deed.COMPLETE: "Complete here",
    Deed.NEXT: "Apply the next edit",
    Deed.ALL: "Apply the edit to all occurrences",
}


class Stale(ValueError):
    """The document is not what it was when the action was offered."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """An action's data: what to do, in which version of which document, and where."""

    deed: Deed
    uri: str
    version: int
    revision: int
    span: tuple[int, int, int, int]
    """Line and character of start and end, as the client counts."""

    @classmethod
    def read(cls, data: Any) -> Ticket | None:
        """None for what is not ours."""
        try:
            values = _field(data, "fim")
            line, character, end_line, end = (int(one) for one in _field(values, "span"))
            return cls(
                Deed(_field(values, "deed")),
                str(_field(values, "uri")),
                int(_field(values, "version")),
                int(_field(values, "revision")),
                (line, character, end_line, end),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def write(self) -> dict[str, Any]:
        return {
            "fim": {
                "deed": str(self.deed),
                "uri": self.uri,
                "version": self.version,
                "revision": self.revision,
                "span": list(self.span),
            }
        }

    @property
    def range(self) -> lsp.Range:
        line, character, end_line, end = self.span
        return lsp.Range(lsp.Position(line, character), lsp.Position(end_line, end))


def offered(
    snapshot: Snapshot, params: lsp.CodeActionParams, service: EditService
) -> list[lsp.CodeAction]:
    """The actions at a place. Where the client asks by itself, only those that have a reason."""
    only = params.context.only
    if only and not any(_is_under(KIND, kind) for kind in only):
        return []
    automatic = params.context.trigger_kind is lsp.CodeActionTriggerKind.Automatic
    deeds = _deeds(snapshot, params.range, service, automatic=automatic)
    return [_action(deed, snapshot, params.range) for deed in deeds]


def problems_in(diagnostics: Sequence[lsp.Diagnostic]) -> list[Problem]:
    """The diagnostics that a client sends along, as reasons to look at lines."""
    return [
        Problem(one.range.start.line, one.range.end.line + 1, str(one.message))
        for one in diagnostics
    ]


def _deeds(
    snapshot: Snapshot, span: lsp.Range, service: EditService, *, automatic: bool
) -> Iterator[Deed]:
    scene = service.scene(snapshot, span.start.line)
    if scene is None:
        return
    empty = span.start == span.end
    if not empty:
        yield Deed.REVISE
    elif not automatic:
        yield Deed.COMPLETE
    if service.current(snapshot.uri) or (scene.hunks and not automatic):
        yield Deed.NEXT
        yield Deed.ALL


def _action(deed: Deed, snapshot: Snapshot, span: lsp.Range) -> lsp.CodeAction:
    where = (span.start.line, span.start.character, span.end.line, span.end.character)
    ticket = Ticket(deed, snapshot.uri, snapshot.version, snapshot.revision, where)
    return lsp.CodeAction(title=TITLES[deed], kind=KIND, data=ticket.write())


@dataclass(frozen=True, slots=True)
class Resolver:
    """Computes what an action changes. `annotates`: the client asks before it applies a change that
    is marked for that; without it, other documents are left alone."""

    documents: DocumentStore
    service: EditService
    backend: Backend
    settings: Settings
    annotates: bool = False

    async def edit(self, ticket: Ticket) -> lsp.WorkspaceEdit:
        """Raises Stale, and BackendError. An edit without changes where the model has none."""
        snapshot = self._current(ticket)
        if ticket.deed is Deed.COMPLETE:
            changes = await self._completed(snapshot, ticket)
            self._current(ticket)
            return _edit_of([(snapshot, changes)] if changes else [])
        found = await self._proposals(snapshot, ticket)
        self._current(ticket)
        own = [one for one in found if one.uri == snapshot.uri]
        others = [one for one in found if one.uri != snapshot.uri] if self.annotates else []
        edit = _edit_of(_by_document(own))
        if others:
            _add_unseen(edit, others)
        return edit

    def _current(self, ticket: Ticket) -> Snapshot:
        snapshot = self.documents.snapshot(ticket.uri)
        if snapshot is None or (snapshot.version, snapshot.revision) != (
            ticket.version,
            ticket.revision,
        ):
            raise Stale("the document has changed since; ask for the action again")
        return snapshot

    async def _proposals(self, snapshot: Snapshot, ticket: Ticket) -> list[Proposal]:
        line = ticket.range.start.line
        if ticket.deed is Deed.REVISE:
            return await self._revised(snapshot, ticket.range)
        if ticket.deed is Deed.NEXT:
            known = self.service.current(snapshot.uri)
            return known[:1] or await self.service.next_edits(snapshot.uri, line, None, 1)
        return await self._occurrences(snapshot, line)

    async def _revised(self, snapshot: Snapshot, span: lsp.Range) -> list[Proposal]:
        """Piece by piece; each sees the text as it is, not the pieces revised before it."""
        scene = self.service.scene(snapshot, span.start.line)
        if scene is None:
            return []
        first, last = snapshot.place(span.start), snapshot.place(span.end)
        end = last.line + (last.index > 0 or last.line == first.line)
        edits = past_edits(scene.hunks, MOST_EDITS)
        found = []
        for low in range(first.line, end, MOST_SELECTED_LINES)[:MOST_PIECES]:
            region = Region(snapshot.uri, low, min(low + MOST_SELECTED_LINES, end), 0.0, "selected")
            proposal = await revised(scene, region, edits, self.service.ask, speculative=False)
            if proposal is not None and proposal.gain > 0:
                found.append(proposal)
        return found

    async def _occurrences(self, snapshot: Snapshot, line: int) -> list[Proposal]:
        """All that follows from the recent edits, here and in the other open documents."""
        found: list[Proposal] = []
        gate = self.service.gate
        for scene, where in await self.service.places(snapshot, line):
            async for one in proposals(scene, where, self.service.ask, gate, MOST_OCCURRENCES):
                found.append(one)
        return ranked(found, snapshot.uri)

    async def _completed(self, snapshot: Snapshot, ticket: Ticket) -> list[lsp.TextEdit]:
        """What the model writes at the place, as for an inline completion that is asked for."""
        hole = budgeted_hole(snapshot, ticket.range.start, self.settings)
        request = request_for(hole, snapshot, self.settings, 1)
        completion = await self.backend.complete(in_context(request, hole, snapshot))
        texts = judge(completion.items, hole, self.settings.min_confidence or 0.0).texts
        span = lsp.Range(hole.position, hole.position)
        return [lsp.TextEdit(span, text.replace("\n", hole.line_end)) for text in texts[:1]]


def _by_document(found: Sequence[Proposal]) -> list[tuple[Snapshot, list[lsp.TextEdit]]]:
    edits: dict[str, tuple[Snapshot, list[lsp.TextEdit]]] = {}
    for one in sorted(found, key=lambda one: one.first):
        edits.setdefault(one.uri, (one.snapshot, []))[1].extend(one.text_edits)
    return list(edits.values())


def _edit_of(changes: Sequence[tuple[Snapshot, list[lsp.TextEdit]]]) -> lsp.WorkspaceEdit:
    return lsp.WorkspaceEdit(
        document_changes=[
            lsp.TextDocumentEdit(_versioned(snapshot), list(edits)) for snapshot, edits in changes
        ]
    )


def _add_unseen(edit: lsp.WorkspaceEdit, others: Sequence[Proposal]) -> None:
    """Changes of other documents, which the client shows before it applies them."""
    name = "fim.elsewhere"
    edit.change_annotations = {
        name: lsp.ChangeAnnotation("In other files", needs_confirmation=True)
    }
    changes = [
        lsp.TextDocumentEdit(
            _versioned(snapshot),
            [lsp.AnnotatedTextEdit(name, one.range, one.new_text) for one in edits],
        )
        for snapshot, edits in _by_document(others)
    ]
    edit.document_changes = [*(edit.document_changes or ()), *changes]


def _versioned(snapshot: Snapshot) -> lsp.OptionalVersionedTextDocumentIdentifier:
    return lsp.OptionalVersionedTextDocumentIdentifier(snapshot.uri, snapshot.version)


def _field(data: Any, name: str) -> Any:
    """A field of JSON that the protocol library has read into whatever it likes."""
    return data[name] if isinstance(data, dict) else getattr(data, name)


def _is_under(kind: str, asked: str) -> bool:
    """Whether an action's kind is one of those that a client asks for by their common beginning."""
    return asked == "" or kind == asked or kind.startswith(f"{asked}.")
