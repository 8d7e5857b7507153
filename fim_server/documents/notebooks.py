"""Open notebooks: the order of their cells, whose texts are ordinary documents.

A completion sees all cells of one language as one text, in order: cells above the cursor's are part
of the prefix, cells below it part of the suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lsprotocol import types as lsp

from fim_server.documents.documents import DocumentStore, Snapshot, without_end
from fim_server.documents.lines import Lines


@dataclass(frozen=True, slots=True)
class NotebookView:
    """A notebook as one document, and the line at which the current cell begins in it."""

    snapshot: Snapshot
    first_line: int

    def position(self, cell: Snapshot, position: lsp.Position) -> lsp.Position:
        """A cell's position in notebook coordinates, clamped to the cell's end."""
        if self.snapshot is cell:
            return position  # not in a notebook
        inside = cell.position(cell.place(position))
        return lsp.Position(inside.line + self.first_line, inside.character)


class NotebookStore:
    """The open notebooks of one client, kept in sync by its notifications."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._cells: dict[str, list[str]] = {}

    def open(self, uri: str, cells: Sequence[lsp.NotebookCell]) -> None:
        """Record the order of the cells; their texts are opened separately, as documents."""
        self._cells[uri] = [cell.document for cell in cells]

    def close(self, uri: str) -> None:
        """Close the notebook and its cells; does nothing if it is not open."""
        for cell in self._cells.pop(uri, []):
            self._documents.close(cell)

    def change(self, uri: str, array: lsp.NotebookCellArrayChange) -> None:
        """Apply a change to the list of cells."""
        cells = self._cells.setdefault(uri, [])
        new = [cell.document for cell in array.cells or []]
        cells[array.start : array.start + array.delete_count] = new

    def cells(self, uri: str) -> Sequence[str]:
        """The URIs of a notebook's cells; empty for any other document."""
        return tuple(self._cells.get(uri, ()))

    def around(self, cell: Snapshot) -> NotebookView | None:
        """The notebook that contains a cell, as one document in the cell's language.

        Its URI is the notebook's, so exclusions and cached tokens apply to the whole notebook.
        """
        uri = next((uri for uri, cells in self._cells.items() if cell.uri in cells), None)
        if uri is None:
            return None
        lines: list[str] = []
        first_line = 0
        for cell_uri in self._cells[uri]:
            snapshot = cell if cell_uri == cell.uri else self._documents.snapshot(cell_uri)
            if snapshot is None or snapshot.language != cell.language:
                continue
            if lines:
                lines[-1] = without_end(lines[-1]) + "\n"
            if cell_uri == cell.uri:
                first_line = len(lines)
            lines += snapshot.lines
        return NotebookView(replace(cell, uri=uri, lines=Lines(lines)), first_line)
