"""Minimal changes, in every encoding and with every line end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.documents.diff import minimal_changes, one_change
from fim_server.documents.documents import (
    DocumentStore,
    Encoding,
    Snapshot,
    split_lines,
    without_end,
)

URI = "file:///a.py"
ENCODINGS = [Encoding.UTF8, Encoding.UTF16, Encoding.UTF32]


def snapshot_of(text: str, encoding: Encoding = Encoding.UTF16) -> Snapshot:
    return Snapshot(URI, "python", 1, 1, encoding, split_lines(text))


def applied(snapshot: Snapshot, edits: list[lsp.TextEdit]) -> str:
    """The text after the document store has applied the edits, from the bottom up."""
    store = DocumentStore(snapshot.encoding)
    store.open(URI, "python", 1, snapshot.text)
    for version, edit in enumerate(reversed(edits), 2):
        change = lsp.TextDocumentContentChangePartial(edit.range, edit.new_text)
        store.change(URI, version, [change])
    after = store.snapshot(URI)
    assert after is not None
    return after.text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_only_what_differs_is_replaced(encoding: Encoding) -> None:
    snapshot = snapshot_of('a\n\tprint("😀", total)  # é\nb\n', encoding)
    [change] = minimal_changes(snapshot, 1, 2, ['\tprint("😀", sum)  # é'])
    edit = change.text_edit(snapshot)
    start = {Encoding.UTF8: 15, Encoding.UTF16: 13, Encoding.UTF32: 12}[encoding]
    assert edit.new_text == "sum"
    assert edit.range == lsp.Range(lsp.Position(1, start), lsp.Position(1, start + 5))


def test_two_changes_can_also_be_one() -> None:
    snapshot = snapshot_of("a = 1\r\nkeep\r\nb = 1\r\n")
    new = ["a = 2", "keep", "b = 2"]
    edits = [change.text_edit(snapshot) for change in minimal_changes(snapshot, 0, 3, new)]
    assert [edit.new_text for edit in edits] == ["2", "2"]
    whole = one_change(snapshot, 0, 3, new).text_edit(snapshot)
    assert whole.new_text == "2\r\nkeep\r\nb = 2"
    for changes in (edits, [whole]):
        assert applied(snapshot, changes) == "a = 2\r\nkeep\r\nb = 2\r\n"


def test_a_combining_accent_stays_with_its_letter() -> None:
    snapshot = snapshot_of("cafe\u0301 = 1\n")
    [change] = minimal_changes(snapshot, 0, 1, ["cafe\u0300 = 1"])
    assert change.text == "e\u0300"
    assert change.start.index == 3


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("new", [[], ["b", "c"], ["x", "b"], ["b2"]])
def test_the_region_at_the_end_of_a_file(end: str, new: list[str]) -> None:
    snapshot = snapshot_of(f"a{end or chr(10)}b{end}")
    edits = [change.text_edit(snapshot) for change in minimal_changes(snapshot, 1, 2, new)]
    separator = end or "\n"
    expected = ["a", *new, *([""] if end else [])]
    assert applied(snapshot, edits) == separator.join(expected)


LINES = st.lists(
    st.sampled_from(["a", "a = 😀1", "\tb", "", "é", "e\u0301", "x\u2028y"]), max_size=5
)


@settings(max_examples=300, deadline=None)
@given(
    LINES, LINES, LINES, LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(ENCODINGS)
)
def test_applying_the_changes_gives_the_new_lines(
    before: list[str],
    old: list[str],
    new: list[str],
    after: list[str],
    end: str,
    encoding: Encoding,
) -> None:
    snapshot = snapshot_of(end.join([*before, *old, *after]), encoding)
    first, last = len(before), len(before) + len(old)
    if last > len(snapshot.lines) or (not old and not before and not after):
        return
    expected = [*before, *new, *after] or [""]
    for edits in (
        minimal_changes(snapshot, first, last, new),
        [one_change(snapshot, first, last, new)] if old and new and old != new else None,
    ):
        if edits is not None:
            text = applied(snapshot, [change.text_edit(snapshot) for change in edits])
            assert [without_end(line) for line in split_lines(text)] == expected
