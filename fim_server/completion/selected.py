"""Completions that continue the item selected in the editor's completion list.

They are computed for the document as it will be once the item is accepted. The answer then takes
the item's range, and begins with the item's text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lsprotocol import types as lsp

from fim_server.documents.documents import Snapshot
from fim_server.documents.notebooks import NotebookView


@dataclass(frozen=True, slots=True)
class Target:
    """The range of an answer in the client's document, and the text that it begins with."""

    span: lsp.Range
    lead: str = ""


def continuing(
    view: NotebookView, cell: Snapshot, cursor: lsp.Position, item: lsp.SelectedCompletionInfo
) -> tuple[NotebookView, lsp.Position, Target] | None:
    """The document with the item inserted, the cursor after the item, and the answers' target.

    `cursor` and the item's range are positions in `cell`. None if the cursor is outside the range.
    """
    start, end = item.range.start, item.range.end
    if not _order(start) <= _order(cursor) <= _order(end):
        return None
    span = lsp.Range(view.position(cell, start), view.position(cell, end))
    later, after_item = view.snapshot.replacing(span, item.text)
    return replace(view, snapshot=later), after_item, Target(item.range, item.text)


def _order(position: lsp.Position) -> tuple[int, int]:
    return position.line, position.character
