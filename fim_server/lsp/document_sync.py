"""The handlers that keep documents, notebooks and folders in sync with the client."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lsprotocol import types as lsp

from fim_server.documents.documents import SyncError
from fim_server.lsp.server import FimServer

logger = logging.getLogger(__name__)


def did_open(ls: FimServer, params: lsp.DidOpenTextDocumentParams) -> None:
    _open(ls, params.text_document)


def did_change(ls: FimServer, params: lsp.DidChangeTextDocumentParams) -> None:
    document = params.text_document
    _change(ls, document.uri, document.version, params.content_changes)


def did_close(ls: FimServer, params: lsp.DidCloseTextDocumentParams) -> None:
    _close(ls, params.text_document.uri)


def notebook_did_open(ls: FimServer, params: lsp.DidOpenNotebookDocumentParams) -> None:
    for cell in params.cell_text_documents:
        _open(ls, cell)
    ls.notebooks.open(params.notebook_document.uri, params.notebook_document.cells)


def notebook_did_change(ls: FimServer, params: lsp.DidChangeNotebookDocumentParams) -> None:
    cells = params.change.cells
    if cells is None:
        return
    if structure := cells.structure:
        for opened in structure.did_open or []:
            _open(ls, opened)
        ls.notebooks.change(params.notebook_document.uri, structure.array)
        for closed in structure.did_close or []:
            _close(ls, closed.uri)
    for content in cells.text_content or []:
        document = content.document
        _change(ls, document.uri, document.version, content.changes)


def notebook_did_close(ls: FimServer, params: lsp.DidCloseNotebookDocumentParams) -> None:
    ls.notebooks.close(params.notebook_document.uri)
    ls.completer.closed(params.notebook_document.uri)
    for cell in params.cell_text_documents:
        _close(ls, cell.uri)


def did_change_folders(ls: FimServer, _params: lsp.DidChangeWorkspaceFoldersParams) -> None:
    """Apply the new folders, which pygls has already recorded."""
    ls.apply_settings()


def _open(ls: FimServer, document: lsp.TextDocumentItem) -> None:
    ls.documents.open(document.uri, document.language_id, document.version, document.text)
    ls.edits.closed(document.uri)
    ls.completer.document_changed(document.uri)


def _change(
    ls: FimServer, uri: str, version: int, changes: Sequence[lsp.TextDocumentContentChangeEvent]
) -> None:
    before = ls.documents.snapshot(uri)
    try:
        ls.documents.change(uri, version, changes)
    except SyncError as problem:
        logger.warning("%s", problem)
        return
    ls.completer.document_changed(uri)
    after = ls.documents.snapshot(uri)
    if before is not None and after is not None:
        ls.edits.changed(before, after)


def _close(ls: FimServer, uri: str) -> None:
    ls.documents.close(uri)
    ls.edits.closed(uri)
    ls.completer.closed(uri)
