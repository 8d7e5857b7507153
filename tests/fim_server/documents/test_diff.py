"""Minimal changes, in every encoding and with every line end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.documents.diff import Change, block_change, minimal_changes
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


def test_two_changes_can_also_be_whole_lines() -> None:
    snapshot = snapshot_of("a = 1\r\nkeep\r\nb = 1\r\n")
    new = ["a = 2", "keep", "b = 2"]
    edits = [change.text_edit(snapshot) for change in minimal_changes(snapshot, 0, 3, new)]
    assert [edit.new_text for edit in edits] == ["2", "2"]
    whole = block_change(snapshot, 0, 3, new).text_edit(snapshot)
    assert whole.new_text == "a = 2\r\nkeep\r\nb = 2"
    for changes in (edits, [whole]):
        assert applied(snapshot, changes) == "a = 2\r\nkeep\r\nb = 2\r\n"


def test_a_combining_accent_stays_with_its_letter() -> None:
    snapshot = snapshot_of("cafe\u0301 = 1\n")
    [change] = minimal_changes(snapshot, 0, 1, ["cafe\u0300 = 1"])
    assert change.text == "cafe\u0300", "the whole word"
    assert (change.start.index, change.end.index) == (0, 5)


HUNKS: list[tuple[str, list[str], list[str], list[tuple[str, str]]]] = [
    (
        "words of three lines",
        ["pay(who, amount)", "log(amount)", "return amount + 1"],
        ["pay(who, total)", "log(total)", "return total + 1"],
        [("amount", "total")] * 3,
    ),
    (
        "one line becomes two",
        ["x = f(a)", "    y = g(a)"],
        ["x = f(a)", "    if a:", "        y = g(a)"],
        [("", "    if a:\n"), ("    ", "        ")],
    ),
    (
        "a line is inserted below one that changes",
        ["def f(a):", "    return a"],
        ["def f(a, b):", "    check(b)", "    return a"],
        [("", ", b"), ("", "    check(b)\n")],
    ),
    (
        "a line is deleted above one that changes",
        ["old = 1", "    print(value, 3)"],
        ["    print(value, 4)"],
        [("old = 1\n", ""), ("3", "4")],
    ),
    ("two words of a line", ["f(a, b, c)"], ["f(x, b, y)"], [("a", "x"), ("c", "y")]),
    (
        "nothing in common",
        ["return None"],
        ["raise ValueError(x)"],
        [("return None", "raise ValueError(x)")],
    ),
    (
        "neighbouring words",
        ["take the first one"],
        ["take a second one"],
        [("the first", "a second")],
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "hunks"), [case[1:] for case in HUNKS], ids=[case[0] for case in HUNKS]
)
def test_hunks_are_aligned_by_line_then_by_word(
    old: list[str], new: list[str], hunks: list[tuple[str, str]]
) -> None:
    snapshot = snapshot_of("\n".join(["above", *old, "below", ""]))
    changes = minimal_changes(snapshot, 1, 1 + len(old), new)
    assert [(replaced(snapshot, change), change.text) for change in changes] == hunks
    text = applied(snapshot, [change.text_edit(snapshot) for change in changes])
    assert text == "\n".join(["above", *new, "below", ""])


def replaced(snapshot: Snapshot, change: Change) -> str:
    """The text that a change removes."""
    lines = snapshot.lines[change.start.line : change.end.line + 1]
    lines[-1] = lines[-1][: change.end.index]
    lines[0] = lines[0][change.start.index :]
    return "".join(lines)


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
        [block_change(snapshot, first, last, new)] if old and new and old != new else None,
    ):
        for edit in edits or ():
            # A change of several lines is one of whole lines.
            assert edit.start.line == edit.end.line or edit.start.index == 0 or not edit.text
        if edits is not None:
            text = applied(snapshot, [change.text_edit(snapshot) for change in edits])
            assert [without_end(line) for line in split_lines(text)] == expected
