"""Code actions: offered without asking the model; their edits are computed on resolve.

An action belongs to one version of its document. It is not resolved for another version, and its
edit names the version, so that a client refuses it for any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lsprotocol import types as lsp

from fim_server.backends.base import Backend
from fim_server.completion.gate import confidence_threshold, judge
from fim_server.completion.hole import budgeted_hole, request_for
from fim_server.completion.in_context import in_context
from fim_server.documents.documents import DocumentStore, Snapshot
from fim_server.edits.history import past_edits
from fim_server.edits.next_edit import MAX_EDITS, Proposal, best_of, ranked, rewritten
from fim_server.edits.regions import Problem, Region
from fim_server.edits.service import EditService
from fim_server.settings.settings import Settings
from fim_server.syntax.interruptible import Allowance

KIND = lsp.CodeActionKind.RefactorRewrite
MAX_SELECTED_LINES = 6
"""Lines of a selection that are revised at once; a longer one is revised in pieces."""

MAX_PIECES = 8
MAX_OCCURRENCES = 40


class ActionName(StrEnum):
    """What an action does; part of its data."""

    REVISE = "revise"
    COMPLETE = "complete"
    NEXT = "next"
    ALL = "all"


TITLES = {
    ActionName.REVISE: "Revise the selection",
    ActionName.COMPLETE: "Complete here",
    ActionName.NEXT: "Apply the next edit",
    ActionName.ALL: "Apply the edit to all occurrences",
}


class Stale(ValueError):
    """The document is not what it was when the action was offered."""


@dataclass(frozen=True, slots=True)
class ActionData:
    """What an action carries from offer to resolve: its name, the document's version and the
    range."""

    name: ActionName
    uri: str
    version: int
    revision: int
    span: tuple[int, int, int, int]
    """Line and character of start and end, in the client's units."""

    @classmethod
    def read(cls, data: Any) -> ActionData | None:
        """The data of one of our actions; None for any other."""
        try:
            values = _field(data, "fim")
            line, character, end_line, end = map(int, _field(values, "span"))
            return cls(
                ActionName(_field(values, "name")),
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
                "name": str(self.name),
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
    """The actions for a range; a client that asks automatically gets only those that apply."""
    if not is_asked_for(params):
        return []
    automatic = params.context.trigger_kind is lsp.CodeActionTriggerKind.Automatic
    names = _names(snapshot, params.range, service, automatic=automatic)
    return [_action(name, snapshot, params.range) for name in names]


def is_asked_for(params: lsp.CodeActionParams) -> bool:
    """Whether a client that asks for some kinds of actions asks for ours."""
    only = params.context.only
    return not only or any(_is_under(KIND, kind) for kind in only)


def problems_in(diagnostics: Sequence[lsp.Diagnostic]) -> list[Problem]:
    """A client's diagnostics by their lines."""
    return [
        Problem(found.range.start.line, found.range.end.line + 1, str(found.message))
        for found in diagnostics
    ]


def _names(
    snapshot: Snapshot, span: lsp.Range, service: EditService, *, automatic: bool
) -> Iterator[ActionName]:
    context = service.context(snapshot, span.start.line)
    if context is None:
        return
    empty = span.start == span.end
    if not empty:
        yield ActionName.REVISE
    elif not automatic:
        yield ActionName.COMPLETE
    if service.current(snapshot.uri) or (context.hunks and not automatic):
        yield ActionName.NEXT
        yield ActionName.ALL


def _action(name: ActionName, snapshot: Snapshot, span: lsp.Range) -> lsp.CodeAction:
    where = (span.start.line, span.start.character, span.end.line, span.end.character)
    data = ActionData(name, snapshot.uri, snapshot.version, snapshot.revision, where)
    return lsp.CodeAction(title=TITLES[name], kind=KIND, data=data.write())


@dataclass(frozen=True, slots=True)
class Resolver:
    """Computes an action's edit. annotates: the client can ask the user to confirm single changes;
    if it cannot, other documents are left alone."""

    documents: DocumentStore
    service: EditService
    backend: Backend
    settings: Settings
    annotates: bool = False

    async def edit(self, data: ActionData) -> lsp.WorkspaceEdit:
        """The action's edit, without changes if the model proposes none. Raises Stale and
        BackendError."""
        snapshot = self._current(data)
        if data.name is ActionName.COMPLETE:
            changes = await self._completed(snapshot, data)
            self._current(data)
            return _edit_of([(snapshot, changes)] if changes else [])
        found = await self._proposals(snapshot, data)
        self._current(data)
        edit = _edit_of(_by_document([p for p in found if p.uri == snapshot.uri]))
        elsewhere = [proposal for proposal in found if proposal.uri != snapshot.uri]
        if elsewhere and self.annotates:
            _add_to_confirm(edit, elsewhere)
        return edit

    def _current(self, data: ActionData) -> Snapshot:
        snapshot = self.documents.snapshot(data.uri)
        if snapshot is None or (snapshot.version, snapshot.revision) != (
            data.version,
            data.revision,
        ):
            raise Stale("the document has changed since; ask for the action again")
        return snapshot

    async def _proposals(self, snapshot: Snapshot, data: ActionData) -> list[Proposal]:
        line = data.range.start.line
        if data.name is ActionName.REVISE:
            return await self._revised(snapshot, data.range)
        if data.name is ActionName.NEXT:
            known = self.service.current(snapshot.uri)
            return known[:1] or await self.service.next_edits(snapshot.uri, line, None, 1)
        return await self._occurrences(snapshot, line)

    async def _revised(self, snapshot: Snapshot, span: lsp.Range) -> list[Proposal]:
        """The selection revised in pieces; the prompt of each has the others' old text."""
        context = self.service.context(snapshot, span.start.line)
        if context is None:
            return []
        first, last = snapshot.place(span.start), snapshot.place(span.end)
        end = last.line + (last.index > 0 or last.line == first.line)
        edits = past_edits(context.hunks, MAX_EDITS)
        found = []
        ask = self.service.ask
        for low in range(first.line, end, MAX_SELECTED_LINES)[:MAX_PIECES]:
            region = Region(snapshot.uri, low, min(low + MAX_SELECTED_LINES, end), 0.0, "selected")
            proposal = best_of(await rewritten(context, region, edits, ask, speculative=False))
            if proposal is not None and proposal.gain > 0:
                found.append(proposal)
        return found

    async def _occurrences(self, snapshot: Snapshot, line: int) -> list[Proposal]:
        """The proposals for all regions, in this and the other open documents."""
        found: list[Proposal] = []
        allowance = Allowance()
        for context, where in await self.service.places(snapshot, line):
            shown = self.service.shown(context, where, allowance, MAX_OCCURRENCES)
            found += [proposal async for proposal in shown]
        return ranked(found, snapshot.uri)

    async def _completed(self, snapshot: Snapshot, data: ActionData) -> list[lsp.TextEdit]:
        """The inline completion at the start of the range, as for an explicit request."""
        hole = budgeted_hole(snapshot, data.range.start, self.settings)
        request = request_for(hole, snapshot, self.settings, 1)
        completion = await self.backend.complete(in_context(request, hole, snapshot))
        threshold = confidence_threshold(
            self.settings.min_confidence, completion.show_above, invoked=True
        )
        texts = judge(completion.items, hole, threshold).texts
        span = lsp.Range(hole.position, hole.position)
        return [lsp.TextEdit(span, text.replace("\n", hole.line_end)) for text in texts[:1]]


def _by_document(found: Sequence[Proposal]) -> list[tuple[Snapshot, list[lsp.TextEdit]]]:
    edits: dict[str, tuple[Snapshot, list[lsp.TextEdit]]] = {}
    for proposal in sorted(found, key=lambda proposal: proposal.first):
        _, text_edits = edits.setdefault(proposal.uri, (proposal.snapshot, []))
        text_edits += proposal.text_edits
    return list(edits.values())


def _edit_of(changes: Sequence[tuple[Snapshot, list[lsp.TextEdit]]]) -> lsp.WorkspaceEdit:
    return lsp.WorkspaceEdit(
        document_changes=[
            lsp.TextDocumentEdit(_versioned(snapshot), list(edits)) for snapshot, edits in changes
        ]
    )


def _add_to_confirm(edit: lsp.WorkspaceEdit, elsewhere: Sequence[Proposal]) -> None:
    """Add changes of other documents, which the user confirms before they are applied."""
    name = "fim.elsewhere"
    edit.change_annotations = {
        name: lsp.ChangeAnnotation("In other files", needs_confirmation=True)
    }
    changes = [
        lsp.TextDocumentEdit(
            _versioned(snapshot),
            [lsp.AnnotatedTextEdit(name, change.range, change.new_text) for change in edits],
        )
        for snapshot, edits in _by_document(elsewhere)
    ]
    edit.document_changes = [*(edit.document_changes or ()), *changes]


def _versioned(snapshot: Snapshot) -> lsp.OptionalVersionedTextDocumentIdentifier:
    return lsp.OptionalVersionedTextDocumentIdentifier(snapshot.uri, snapshot.version)


def _field(data: Any, name: str) -> Any:
    """A field of JSON, which the protocol library reads as a dict or as an object."""
    return data[name] if isinstance(data, dict) else getattr(data, name)


def _is_under(kind: str, asked: str) -> bool:
    """Whether an action's kind is the one asked for or one of its sub-kinds."""
    return asked == "" or kind == asked or kind.startswith(f"{asked}.")
