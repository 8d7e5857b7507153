"""Edits by instruction, and questions about code: `fim.instruct`, `fim/propose`, `fim/ask`.

All results are shown by the client: edits in hunks to accept or refuse one by one, as next edits
are. What the model may not see is refused by name.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from fim_model.requests import ChatMessage
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams

from fim_server.access.workspace import file_of
from fim_server.backends.base import Backend, BackendError, assistant_of
from fim_server.lsp.announced import at
from fim_server.lsp.edits import offered
from fim_server.lsp.server import FimServer

if TYPE_CHECKING:
    from fim_server.documents.documents import Snapshot
    from fim_server.edits.next_edit import EditContext, Proposal

T = TypeVar("T")

INSTRUCT = "fim.instruct"
"""A command: `{uri, version?, range, instruction}` -> `{edits}`, one edit for each hunk."""

PROPOSE = "fim/propose"
"""A request: `{textDocument {uri, version?}, range, text}` -> `{edits}`: a text from elsewhere,
such as a block of an answer, in hunks. An empty range inserts lines below its line."""

ASK = "fim/ask"
"""A request: `{messages, textDocument?, range?, token?}` -> `{text}`. Meanwhile, ANSWER notifies
with the text so far."""

ANSWER = "fim/answer"


def register(server: FimServer) -> None:
    """Register the handlers of this module."""

    async def instructed(*arguments: Any) -> dict[str, Any]:
        return await instruct(server, arguments[0] if arguments else None)

    server.command(INSTRUCT)(instructed)
    server.feature(PROPOSE)(propose)
    server.feature(ASK)(ask)


async def instruct(ls: FimServer, params: Any) -> dict[str, Any]:
    """The hunks by which the lines of a range follow an instruction."""
    from fim_server.edits.asked.instructed import instructed, lines_of

    instruction = at(params, "instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise JsonRpcInvalidParams(f"{INSTRUCT}: instruction must say what to do")
    context = _document(ls, at(params, "uri"), at(params, "version"))
    snapshot = context.snapshot
    first, end = lines_of(snapshot, _range(at(params, "range"), INSTRUCT))
    end = min(end, len(snapshot.lines) - (not snapshot.lines[-1])) or end
    work = instructed(_backend(ls), context, first, end, instruction)
    return _hunks(ls, snapshot, await _served(work))


def propose(ls: FimServer, params: Any) -> dict[str, Any]:
    """The hunks by which the lines of a range become a text that the client has."""
    from fim_server.edits.asked.instructed import hunks_of, lines_of

    document, text = at(params, "textDocument"), at(params, "text")
    if not isinstance(text, str):
        raise JsonRpcInvalidParams(f"{PROPOSE}: text must be the new lines")
    snapshot = _snapshot(ls, at(document, "uri"), at(document, "version"))
    span = _range(at(params, "range"), PROPOSE)
    first, end = lines_of(snapshot, span)
    if span.start == span.end:  # below the cursor's line, or in place of an empty one
        first = end if snapshot.lines[first].strip() else first
    return _hunks(ls, snapshot, hunks_of(snapshot, first, end, text, "from an answer"))


async def ask(ls: FimServer, params: Any) -> dict[str, Any]:
    """The next answer of a conversation about a document, or about none."""
    from fim_server.edits.asked.conversation import question

    document, span, token = (at(params, name) for name in ("textDocument", "range", "token"))
    messages = _messages(at(params, "messages"))
    context = None if document is None else _document(ls, at(document, "uri"), None)
    backend = _backend(ls)

    def say(text: str) -> None:
        ls.protocol.notify(ANSWER, {"token": token, "text": text})

    async def answer() -> str:
        shown = None if span is None else _range(span, ASK)
        assistant, request = assistant_of(backend), question(messages, context, shown)
        return await assistant.answer(request, say if token is not None else lambda text: None)

    return {"text": await _served(answer())}


async def _served(work: Awaitable[T]) -> T:
    """The result of work on the model, whose problems become the answer's error."""
    try:
        return await work
    except BackendError as problem:
        raise _refused(str(problem)) from problem


def _hunks(ls: FimServer, snapshot: Snapshot, hunks: list[Proposal]) -> dict[str, Any]:
    current = ls.documents.snapshot(snapshot.uri)
    if current is None or current.revision != snapshot.revision:
        raise JsonRpcException(
            "the document has changed meanwhile; ask again", lsp.LSPErrorCodes.ContentModified
        )
    return {"edits": [offered(ls, hunk) for hunk in hunks]}


def _backend(ls: FimServer) -> Backend:
    if (backend := ls.completer.ready_backend) is None:
        raise _refused("the model is not loaded yet; try again in a moment")
    return backend


def _snapshot(ls: FimServer, uri: Any, version: Any) -> Snapshot:
    snapshot = ls.documents.snapshot(uri) if isinstance(uri, str) else None
    if snapshot is None:
        raise _refused(f"{uri} is not open in this server")
    if isinstance(version, int) and version != snapshot.version:
        raise JsonRpcException(
            "the document has changed meanwhile; ask again", lsp.LSPErrorCodes.ContentModified
        )
    return snapshot


def _document(ls: FimServer, uri: Any, version: Any) -> EditContext:
    """What the model may be asked about a document. Raises JsonRpcException for an excluded one."""
    snapshot = _snapshot(ls, uri, version)
    if why := ls.edits.why_not_show(snapshot):
        path = file_of(snapshot.uri)
        raise _refused(f"{path.name if path else snapshot.uri} is not shown to the model: {why}")
    context = ls.edits.context(snapshot, snapshot.edited_line or 0)
    assert context is not None, "by the same rules"
    return context


def _refused(message: str) -> JsonRpcException:
    return JsonRpcException(message, lsp.LSPErrorCodes.RequestFailed)


def _range(value: Any, method: str) -> lsp.Range:
    def position(place: Any) -> lsp.Position:
        line, character = at(place, "line"), at(place, "character")
        if not (isinstance(line, int) and isinstance(character, int)) or min(line, character) < 0:
            raise JsonRpcInvalidParams(f"{method}: range must have a start and an end")
        return lsp.Position(line, character)

    return lsp.Range(position(at(value, "start")), position(at(value, "end")))


def _messages(value: Any) -> list[ChatMessage]:
    if not isinstance(value, list | tuple):
        raise JsonRpcInvalidParams(f"{ASK}: messages must be a list of role and content")
    try:
        return [ChatMessage(str(at(said, "role")), str(at(said, "content"))) for said in value]
    except ValueError as wrong:
        raise JsonRpcInvalidParams(f"{ASK}: {wrong}") from None
