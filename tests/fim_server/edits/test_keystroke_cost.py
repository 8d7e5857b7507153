"""What a keystroke costs does not depend on the length of the file: counted, not timed."""

from __future__ import annotations

import tracemalloc

import pytest
from lsprotocol import types as lsp

from fim_server.completion.hole import budgeted_hole
from fim_server.documents.documents import DocumentStore, Snapshot
from fim_server.documents.lines import Lines
from fim_server.edits.history import History
from fim_server.settings.settings import Settings

URI = "file:///project/a.py"
SHORT, LONG = 3_000, 240_000
MAX_BYTES = 100_000
"""More than the window of a completion; a list of LONG lines alone takes 1.9 MB."""


class CountedLine(str):
    """A line that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedLine.compared += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        CountedLine.compared += 1
        return str.__ne__(self, other)

    __hash__ = str.__hash__


def typed(count: int, key: str, span: tuple[int, int, int, int]) -> tuple[int, int]:
    """The lines compared and the most bytes allocated for one key in a file of `count` lines, after
    other keys; all of the way to the request for a completion."""
    store, history = DocumentStore(), History()
    store.open(URI, "python", 1, "")
    lines = Lines([*(CountedLine(f"value_{at} = {at}\n") for at in range(count)), ""])
    known = store.snapshot(URI)
    assert known is not None
    store._documents[URI] = Snapshot(URI, "python", 1, 1, known.encoding, lines, None)
    middle = count // 2

    def press(version: int, text: str, first: int, start: int, last: int, end: int) -> None:
        before = store.snapshot(URI)
        assert before is not None
        where = lsp.Range(lsp.Position(first, start), lsp.Position(last, end))
        store.change(URI, version, [lsp.TextDocumentContentChangePartial(where, text)])
        after = store.snapshot(URI)
        assert after is not None
        history.record(before, after, float(version))
        budgeted_hole(after, lsp.Position(first, start + 1), Settings())

    for version in range(2, 12):
        press(version, "x", middle + 3 * version, 0, middle + 3 * version, 0)
    first, start, last, end = span
    tracemalloc.start()
    CountedLine.compared = 0
    press(12, key, middle + first, start, middle + last, end)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(history.recent(12.0)) > 0
    return CountedLine.compared, peak


@pytest.mark.parametrize(
    ("key", "span"),
    [
        ("x", (0, 0, 0, 0)),
        ("\n", (0, 2, 0, 2)),
        ("", (0, 2, 3, 1)),
        ("a\nb\nc\n", (1, 0, 1, 0)),
    ],
)
def test_a_key_touches_as_few_lines_in_a_long_file_as_in_a_short_one(
    key: str, span: tuple[int, int, int, int]
) -> None:
    (compared, peak), (compared_long, peak_long) = (
        typed(count, key, span) for count in (SHORT, LONG)
    )
    assert compared_long <= compared + 300, "a few nodes more"
    assert compared_long < 1000
    assert peak_long < MAX_BYTES
    assert peak_long < peak + 20_000
