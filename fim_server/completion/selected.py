"""The item that is selected in the editor's list of completions, while the list is open.

What is suggested then must continue that item, in the item's own range: the document is taken as
it will be once the item is accepted, and the item's text stands before every answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lsprotocol import types as lsp

from fim_server.documents.documents import Snapshot
from fim_server.documents.notebooks import NotebookView


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes in the client's document, and the text that it begins with."""

    span: lsp.Range
    lead: str = ""


def continuing(
    view: NotebookView, cell: Snapshot, cursor: lsp.Position, item: lsp.SelectedCompletionInfo
) -> tuple[NotebookView, lsp.Position, Target] | None:
    """The document with the item inserted, the cursor behind it there, and where answers go.

    `cursor` and the item's range are positions in `cell`. None where the range is not around the
    cursor.
    """
    start, end = item.range.start, item.range.end
    if not _order(start) <= _order(cursor) <= _order(end):
        return None
    span = lsp.Range(view.position(cell, start), view.position(cell, end))
    later, behind = view.snapshot.replacing(span, item.text)
    return replace(view, snapshot=later), behind, Target(item.range, item.text)


def _order(position: lsp.Position) -> tuple[int, int]:
    return position.line, position.character
