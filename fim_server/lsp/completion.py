"""The handler of `textDocument/inlineCompletion`."""

from __future__ import annotations

from typing import Any

from lsprotocol import types as lsp

from fim_server.lsp.server import FimServer


async def inline_completion(
    ls: FimServer, params: lsp.InlineCompletionParams
) -> lsp.InlineCompletionList:
    """The items to show, possibly none.

    Never null, on which clients keep the old ghost text, and never an error, which they pop up.
    """
    ls.status.asked()
    answer = await ls.completer.complete(
        params.text_document.uri,
        params.position,
        params.context.trigger_kind,
        getattr(params.text_document, "version", None),
        params.context.selected_completion_info,
    )
    adapted = ls.completer.adapted(params.text_document.uri)
    ls.status.answered(answer.silence, answer.detail or answer.about, adapted=adapted)
    ls.statistics.count("requests")
    ls.statistics.count("offered" if answer.items else f"silence.{answer.silence}")
    ls.feedback.mark(answer.items)
    return lsp.InlineCompletionList(items=answer.items)


def did_focus(ls: FimServer, params: Any) -> None:
    """`textDocument/didFocus {textDocument: {uri}}`: the user switched to another document."""
    uri = getattr(getattr(params, "textDocument", None), "uri", None)
    if isinstance(uri, str):
        ls.documents.use(uri)
