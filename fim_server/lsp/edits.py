"""The handlers of edit suggestions.

The room `edits` is large, so it is imported only after `initialize` is answered.

Copilot's messages serve clients that already support them; `fim/nextEdit` is pushed to our plugins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from fim_server.access.workspace import Workspace
from fim_server.backends.base import BackendError
from fim_server.lsp import announced
from fim_server.lsp.announced import announces, at
from fim_server.lsp.protocol import INLINE_EDIT, NO_EDITS
from fim_server.lsp.server import FimServer

if TYPE_CHECKING:
    from fim_server.documents.documents import Snapshot
    from fim_server.edits.next_edit import Proposal
    from fim_server.edits.service import EditService

DID_SHOW = "textDocument/didShowInlineEdit"
DID_REJECT = "textDocument/didRejectInlineEdit"
"""Our own method: Copilot's protocol has no equivalent."""

NEXT_EDIT = "fim/nextEdit"

EDIT_WITH_INSTRUCTION = "fim.edit"
"""A command of the client: `{uri, version, range}`. It asks for an instruction, and sends it with
`fim.instruct` (`lsp/assistant.py`)."""

INSTRUCTION_TITLE = "Edit with instruction…"


def set_up(ls: FimServer, capabilities: lsp.ClientCapabilities) -> None:
    """Have the edit service created, when it is first used, for the client's capabilities."""

    def push(uri: str, proposals: Sequence[Proposal]) -> None:
        edits = [offered(ls, proposal) for proposal in proposals]
        ls.protocol.notify(NEXT_EDIT, {"edits": edits})

    def create() -> EditService:
        from fim_server.edits.service import EditService

        return EditService(
            ls.documents,
            lambda: ls.completer.ready_backend,
            ls.settings,
            Workspace(ls.folders(), ls.settings),
            push if announces(capabilities, announced.NEXT_EDIT) else None,
        )

    ls.create_edits = create


def register(server: FimServer) -> None:
    """Register the handlers of this module."""
    server.feature(INLINE_EDIT)(inline_edit)
    server.feature(DID_SHOW)(did_show)
    server.feature(DID_REJECT)(did_reject)
    options = lsp.CodeActionOptions(
        code_action_kinds=[lsp.CodeActionKind.RefactorRewrite], resolve_provider=True
    )
    server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, options)(code_action)
    server.feature(lsp.CODE_ACTION_RESOLVE)(resolve)

    def accepted(*arguments: Any) -> None:
        if server.edits.offered(arguments[0] if arguments else None):
            server.statistics.count("edits_accepted")

    server.command(server.accept_edit)(accepted)


async def inline_edit(ls: FimServer, params: Any) -> dict[str, list[Any]]:
    """`{textDocument{uri, version}, position}` -> `{edits}`.

    At most one edit: clients apply all of them at once, and no edit must be applied unseen.
    """
    document, position = at(params, "textDocument"), at(params, "position")
    uri, version, line = at(document, "uri"), at(document, "version"), at(position, "line")
    if not isinstance(uri, str):
        return NO_EDITS
    try:
        found = await ls.edits.next_edits(
            uri,
            line if isinstance(line, int) and line >= 0 else 0,
            version if isinstance(version, int) else None,
        )
    except asyncio.CancelledError:
        found = []
    return {"edits": [offered(ls, proposal) for proposal in found]}


def offered(ls: FimServer, proposal: Proposal) -> dict[str, Any]:
    """A proposal as an inline edit of Copilot's protocol, with its hunks for clients that know
    them: `text` and `range` are the same change as one replacement."""
    name = ls.edits.offer(proposal)
    ls.statistics.count("edits_offered")
    snapshot = proposal.snapshot
    edit = proposal.block.text_edit(snapshot)
    hunks = [{"text": hunk.new_text, "range": hunk.range} for hunk in proposal.text_edits]
    return {
        "text": edit.new_text,
        "range": edit.range,
        "hunks": hunks,
        "textDocument": {"uri": snapshot.uri, "version": snapshot.version},
        "command": {"title": "Accept", "command": ls.accept_edit, "arguments": [name]},
    }


def did_show(ls: FimServer, params: Any) -> None:
    """`{item}`: the client showed an edit, which it returns as it was sent."""
    if ls.edits.offered(_name_in(params)):
        ls.statistics.count("edits_shown")


def did_reject(ls: FimServer, params: Any) -> None:
    """`{item}`: the user rejected an edit."""
    name = _name_in(params)
    if isinstance(name, str):
        ls.edits.rejected(name)


async def code_action(ls: FimServer, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
    """The code actions available here; their edits are computed on `codeAction/resolve`."""
    from fim_server.edits.actions import offered as offered_actions
    from fim_server.edits.actions import problems_in

    uri = params.text_document.uri
    ls.edits.diagnosed(uri, problems_in(params.context.diagnostics))
    snapshot = ls.documents.snapshot(uri)
    if snapshot is None or ls.completer.ready_backend is None:
        return []
    actions = offered_actions(snapshot, params, ls.edits) if _applies_versions(ls) else []
    return actions + await _instruction_action(ls, snapshot, params)


async def _instruction_action(
    ls: FimServer, snapshot: Snapshot, params: lsp.CodeActionParams
) -> list[lsp.CodeAction]:
    """The action whose command asks for an instruction, in the client: for selected lines, where
    the model follows instructions."""
    from fim_server.edits.actions import KIND, is_asked_for

    span, backend = params.range, ls.completer.ready_backend
    if span.start == span.end or backend is None or not is_asked_for(params):
        return []
    if not announces(ls.client_capabilities, announced.INSTRUCT):
        return []
    if ls.edits.why_not_show(snapshot) or not await ls.ability.is_known(backend):
        return []
    place = {"uri": snapshot.uri, "version": snapshot.version, "range": span}
    command = lsp.Command(INSTRUCTION_TITLE, EDIT_WITH_INSTRUCTION, arguments=[place])
    return [lsp.CodeAction(INSTRUCTION_TITLE, kind=KIND, command=command)]


async def resolve(ls: FimServer, action: lsp.CodeAction) -> lsp.CodeAction:
    """The action with its edit. Fails with ContentModified if the document has changed since."""
    from fim_server.edits.actions import ActionData, Resolver, Stale

    data = ActionData.read(action.data)
    backend = ls.completer.ready_backend
    if data is None or backend is None:
        return action
    support = getattr(ls.client_capabilities.workspace, "workspace_edit", None)
    annotates = getattr(support, "change_annotation_support", None) is not None
    resolver = Resolver(ls.documents, ls.edits, backend, ls.settings, annotates)
    try:
        action.edit = await resolver.edit(data)
    except Stale as stale:
        raise JsonRpcException(str(stale), lsp.LSPErrorCodes.ContentModified) from stale
    except BackendError as problem:
        raise JsonRpcException(str(problem), lsp.LSPErrorCodes.RequestFailed) from problem
    return action


def _applies_versions(ls: FimServer) -> bool:
    """Whether the client checks document versions when it applies edits (`documentChanges`)."""
    support = getattr(ls.client_capabilities.workspace, "workspace_edit", None)
    return getattr(support, "document_changes", None) is True


def _name_in(params: Any) -> object:
    arguments = at(at(at(params, "item"), "command"), "arguments")
    return arguments[0] if isinstance(arguments, list | tuple) and arguments else None
