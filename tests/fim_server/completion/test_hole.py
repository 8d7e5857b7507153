"""The hole of a document, and the request made from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.completion.hole import WINDOW_STRIDE, hole_at, request_for
from fim_server.documents.documents import DocumentStore, Encoding, Snapshot
from fim_server.settings.settings import Settings

URI = "file:///home/me/my%20project/pkg/mod.py"


def snapshot_of(text: str, encoding: Encoding = Encoding.UTF16, uri: str = URI) -> Snapshot:
    store = DocumentStore(encoding)
    store.open(uri, "python", 1, text)
    snapshot = store.snapshot(uri)
    assert snapshot is not None
    return snapshot


def test_both_sides_of_the_cursor() -> None:
    hole = hole_at(snapshot_of("a = 1\nb = \nc = 3\n"), lsp.Position(1, 4), 100, 100)
    assert (hole.before, hole.after) == ("a = 1\nb = ", "\nc = 3\n")
    assert not hole.inside_line


def test_an_empty_document_is_an_empty_hole() -> None:
    hole = hole_at(snapshot_of(""), lsp.Position(0, 0), 100, 100)
    assert (hole.before, hole.after, hole.line_end) == ("", "", "\n")


def test_line_ends_are_normalised_for_the_model_and_restored_in_the_answer() -> None:
    hole = hole_at(snapshot_of("a\r\nb\r\nc"), lsp.Position(1, 1), 100, 100)
    assert (hole.before, hole.after, hole.line_end) == ("a\nb", "\nc", "\r\n")


def test_the_hole_never_splits_a_character() -> None:
    hole = hole_at(snapshot_of("x\ud83d = 1"), lsp.Position(0, 4), 100, 100)
    assert hole.before == "x\ufffd ="


@pytest.mark.parametrize("encoding", list(Encoding))
def test_an_invalid_position_becomes_the_nearest_valid_one(encoding: Encoding) -> None:
    hole = hole_at(snapshot_of("😀é\n", encoding), lsp.Position(0, 999), 100, 100)
    assert hole.before == "😀é"
    units = {Encoding.UTF8: 6, Encoding.UTF16: 3, Encoding.UTF32: 2}[encoding]
    assert hole.position == lsp.Position(0, units)
    assert hole_at(snapshot_of("a\n"), lsp.Position(7, 7), 9, 9).position == lsp.Position(1, 0)


lines = st.lists(st.text(alphabet="ab😀", max_size=30), min_size=1, max_size=60)


@hypothesis_settings(deadline=None)
@given(lines=lines, data=st.data(), before=st.integers(16, 400), after=st.integers(0, 400))
def test_the_window_is_the_text_around_the_cursor(
    lines: list[str], data: st.DataObject, before: int, after: int
) -> None:
    text = "\n".join(lines)
    line = data.draw(st.integers(0, len(lines) - 1))
    index = data.draw(st.integers(0, len(lines[line])))
    hole = hole_at(snapshot_of(text, Encoding.UTF32), lsp.Position(line, index), before, after)
    offset = sum(len(earlier) + 1 for earlier in lines[:line]) + index
    assert text[:offset].endswith(hole.before)
    assert text[offset:].startswith(hole.after)
    assert len(hole.before) <= before
    assert len(hole.after) <= after
    start = offset - len(hole.before)
    if index <= before:
        assert start == 0 or text[start - 1] == "\n", "the window begins at a line start"
    if start:
        longest = max(map(len, lines)) + 1
        assert len(hole.before) >= before // 2 - longest, "most of the limit is used"


def test_the_window_does_not_move_while_the_user_types() -> None:
    """Otherwise each typed character would invalidate all cached tokens of the prefix."""
    text = "".join(f"value_{number} = {number}\n" for number in range(200))
    starts = []
    for typed in range(len(text) // 2, len(text) // 2 + 400):
        head = text[:typed]
        position = lsp.Position(head.count("\n"), len(head.rpartition("\n")[2]))
        starts.append(typed - len(hole_at(snapshot_of(head), position, 600, 0).before))
    moves = sum(start != next_one for start, next_one in pairwise(starts))
    lines_typed = text[len(text) // 2 : len(text) // 2 + 400].count("\n")
    assert moves <= lines_typed / WINDOW_STRIDE + 1


def test_a_very_long_line_is_cut_at_a_stable_position() -> None:
    text = "x" * 5_000_000
    snapshot = snapshot_of(text)
    holes = [hole_at(snapshot, lsp.Position(0, 4_000_000 + i), 1000, 500) for i in range(100)]
    starts = {4_000_000 + i - len(hole.before) for i, hole in enumerate(holes)}
    assert len(starts) <= 2
    assert all(750 <= len(hole.before) <= 1000 for hole in holes)
    assert all(len(hole.after) == 500 for hole in holes)


class CountedLines(Sequence[str]):
    """Lines that count accesses."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines, self.read = lines, 0

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, which):  # type: ignore[no-untyped-def]
        found = self.lines[which]
        self.read += len(found) if isinstance(which, slice) else 1
        return found

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("nobody reads the whole file")


def test_a_5_mb_file_is_not_read_completely() -> None:
    snapshot = snapshot_of("value = compute(1, 2, 3)\n" * 200_000)
    counted = CountedLines(snapshot.lines)
    hole = hole_at(
        dataclasses.replace(snapshot, lines=counted), lsp.Position(100_000, 5), 1000, 500
    )
    assert hole.before.endswith("\nvalue")
    assert counted.read < 500


def ask(text: str, position: lsp.Position, uri: str = URI):  # type: ignore[no-untyped-def]
    snapshot = snapshot_of(text, uri=uri)
    settings = Settings(mode="ar", max_tokens=12, max_lines=5)
    return request_for(hole_at(snapshot, position, 100, 100), snapshot, settings, 2)


def test_the_request_carries_the_settings_and_the_document() -> None:
    request = ask("a = \n", lsp.Position(0, 4))
    assert (request.prefix, request.suffix) == ("a = ", "\n")
    assert (request.mode, request.max_tokens, request.alternatives) == ("ar", 12, 2)
    assert request.language == "python"
    assert request.session == URI
    assert request.path == "/home/me/my project/pkg/mod.py"


@pytest.mark.parametrize("uri", ["untitled:Untitled-1", "", "file://[", "%%%"])
def test_a_document_without_a_file_has_no_path(uri: str) -> None:
    assert ask("", lsp.Position(0, 0), uri).path == ""


@pytest.mark.parametrize(
    ("rest", "max_lines"), [("", 5), ("  ", 5), (")", 1), (" # why", 1), ("\nmore", 5)]
)
def test_text_right_of_the_cursor_limits_the_answer_to_one_line(rest: str, max_lines: int) -> None:
    assert ask("f(" + rest, lsp.Position(0, 2)).max_lines == max_lines
