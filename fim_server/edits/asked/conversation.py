"""Questions about code: a conversation, with a document or a part of it as context."""

from __future__ import annotations

from collections.abc import Sequence

from fim_model.requests import ChatMessage, ChatRequest
from lsprotocol import types as lsp

from fim_server.backends.base import Unfit
from fim_server.documents.documents import without_end
from fim_server.edits.asked.instructed import lines_of
from fim_server.edits.next_edit import EditContext

MAX_CONTEXT_CHARS = 6000
"""Text of the document that is shown to the model."""

MAX_ANSWER = 1024
"""Tokens of an answer."""

_SYSTEM = "You help a programmer with their code. Answer briefly. Put code into fenced code blocks."


def question(
    messages: Sequence[ChatMessage], context: EditContext | None, span: lsp.Range | None
) -> ChatRequest:
    """The request for the next answer. Raises Unfit for a conversation that cannot be answered.

    context: the document that is talked about. span: the part of it that is shown; None for all,
    as many lines around the cursor as fit.
    """
    said = list(messages)
    if not said or said[-1].role != "user" or not said[-1].content.strip():
        raise Unfit("the last message must be a question of the user's")
    if context is not None:
        first = next(at for at, message in enumerate(said) if message.role == "user")
        shown = f"{_shown(context, span)}\n\n{said[first].content}"
        said[first] = ChatMessage("user", shown)
    if said[0].role != "system":
        said.insert(0, ChatMessage("system", _SYSTEM))
    return ChatRequest(tuple(said), max_tokens=MAX_ANSWER)


def _shown(context: EditContext, span: lsp.Range | None) -> str:
    """The document's lines as the model reads them, in a code block."""
    lines = [without_end(line) for line in context.snapshot.lines]
    low, high = lines_of(context.snapshot, span) if span else (0, len(lines))
    if span is None:
        low, high = _around(lines, context.cursor_line)
    code = "\n".join(lines[low:high]).encode("utf-8", "replace").decode()[:MAX_CONTEXT_CHARS]
    name = f"File: {context.path}\n" if context.path else ""
    return f"{name}Lines {low + 1} to {high}:\n```{context.snapshot.language}\n{code}\n```"


def _around(lines: Sequence[str], cursor: int) -> tuple[int, int]:
    """The lines around the cursor that fit MAX_CONTEXT_CHARS: by turns one below and one above."""
    low = high = min(max(cursor, 0), len(lines))
    left = MAX_CONTEXT_CHARS
    while True:
        grown = False
        if high < len(lines) and len(lines[high]) < left:
            left -= len(lines[high]) + 1
            high, grown = high + 1, True
        if low and len(lines[low - 1]) < left:
            left -= len(lines[low - 1]) + 1
            low, grown = low - 1, True
        if not grown:
            return low, high
