"""Open notebooks: the order of their cells. The cells' texts are ordinary documents.

For a completion the cells of one language are one text, in their order: what stands in the cells
before the cursor's is prefix, what stands in those after it suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lsprotocol import types as lsp

from fim_server.documents.documents import DocumentStore, Snapshot, without_end


@dataclass(frozen=True, slots=True)
class NotebookView:
    """A notebook as one document, and the line in it where a cell begins."""

    snapshot: Snapshot
    first_line: int

    def position(self, cell: Snapshot, position: lsp.Position) -> lsp.Position:
        """Where a cell's position is in the notebook; past the cell's end it is that end."""
        if self.snapshot is cell:
            return position  # no notebook
        inside = cell.position(cell.place(position))
        return lsp.Position(inside.line + self.first_line, inside.character)


class NotebookStore:
    """The open notebooks of one client, kept in step by its notifications."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._cells: dict[str, list[str]] = {}

    def open(self, uri: str, cells: Sequence[lsp.NotebookCell]) -> None:
        """Remember the cells' order; their texts are opened by `documents`."""
        self._cells[uri] = [cell.document for cell in cells]

    def close(self, uri: str) -> None:
        """Forget the notebook and its cells' texts; one that is not open is no error."""
        for cell in self._cells.pop(uri, []):
            self._documents.close(cell)

    def change(self, uri: str, array: lsp.NotebookCellArrayChange) -> None:
        """Replace a run of cells."""
        cells = self._cells.setdefault(uri, [])
        new = [cell.document for cell in array.cells or []]
        cells[array.start : array.start + array.delete_count] = new

    def cells(self, uri: str) -> Sequence[str]:
        """The URIs of a notebook's cells; none for any other document."""
        return tuple(self._cells.get(uri, ()))

    def around(self, cell: Snapshot) -> NotebookView | None:
        """The notebook that a cell is in, as one document of the cell's language.

        Its URI is the notebook's, so that rules and cached tokens are the notebook's as well.
        """
        uri = next((uri for uri, cells in self._cells.items() if cell.uri in cells), None)
        if uri is None:
            return None
        lines: list[str] = []
        first_line = 0
        for one in self._cells[uri]:
            snapshot = cell if one == cell.uri else self._documents.snapshot(one)
            if snapshot is None or snapshot.language != cell.language:
                continue
            if lines:
                lines[-1] = without_end(lines[-1]) + "\n"
            if one == cell.uri:
                first_line = len(lines)
            lines += snapshot.lines
        return NotebookView(replace(cell, uri=uri, lines=lines), first_line)
