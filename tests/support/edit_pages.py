"""Drafts of the rules for a page after edits, without a model."""

from __future__ import annotations

from collections.abc import Sequence

from fim_server.documents.documents import Encoding, Snapshot, split_lines, without_end
from fim_server.edits.history import Hunk
from fim_server.edits.regions import regions
from fim_server.edits.rules.page import Page
from fim_server.syntax.languages import language_of

URI = "file:///project/a.py"


def expected(
    text: str, *edits: tuple[int, str], cursor: int | None = None, language: str = "python",
    neighbours: tuple[str, ...] = (),
) -> dict[int, list[str]]:  # fmt: skip
    """The drafts of each region, by its first line, after the edits (line now, text before)."""
    lines = split_lines(text)
    snapshot = Snapshot(URI, language, 1, 1, Encoding.UTF32, lines)
    hunks = [
        Hunk(URI, line, (old,) if old else (), (without_end(lines[line]),), 0.0)
        for line, old in edits
    ]
    at = hunks[-1].first if cursor is None else cursor
    found = regions(Page(snapshot, at, language_of(language), hunks, neighbours))
    return {region.first: [draft.text for draft in region.drafts] for region in found}


def after(
    text: str, first: int, old: Sequence[str], new: Sequence[str], *, language: str = "python"
) -> dict[int, list[str]]:
    """The same after one hunk: `old` became `new`, beginning at line `first`."""
    snapshot = Snapshot(URI, language, 1, 1, Encoding.UTF32, split_lines(text))
    assert [without_end(line) for line in snapshot.lines[first : first + len(new)]] == [*new]
    hunk = Hunk(URI, first, tuple(old), tuple(new), 0.0)
    found = regions(Page(snapshot, first, language_of(language), [hunk]))
    return {region.first: [draft.text for draft in region.drafts] for region in found}
