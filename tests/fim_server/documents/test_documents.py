"""Document sync is exact for all characters, line ends and encodings."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from lsprotocol import types as lsp

from fim_server.documents.documents import (
    UNVERSIONED,
    DocumentStore,
    Encoding,
    Place,
    SyncError,
    index_to_units,
    split_lines,
    units_to_index,
)

URI = "file:///a.py"
ENCODINGS = list(Encoding)

# Form feed, VT, FS, NEL and U+2028 end a line for str.splitlines, but not in LSP.
PIECES = [
    "a",
    "b",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\f",
    "\x0b",
    "\x1c",
    "\x85",
    "\u2028",
    "é",
    "漢",
    "😀",
    "𝒳",
]
texts = st.lists(st.sampled_from(PIECES), max_size=24).map("".join)


# Reference implementation, character by character, directly from the specification.


def width(character: str, encoding: Encoding) -> int:
    codec = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
    return (
        len(character.encode(codec, "surrogatepass"))
        // {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    )


def line_starts(text: str) -> list[int]:
    starts = [0]
    for i, character in enumerate(text):
        if character == "\n" or (character == "\r" and text[i + 1 : i + 2] != "\n"):
            starts.append(i + 1)
    return starts


def offset_of(text: str, position: lsp.Position, encoding: Encoding) -> int:
    starts = line_starts(text)
    if position.line >= len(starts):
        return len(text)
    offset, left = starts[position.line], position.character
    while offset < len(text) and text[offset] not in "\r\n":
        left -= width(text[offset], encoding)
        if left < 0:
            break
        offset += 1
    return offset


def position_of(text: str, offset: int, encoding: Encoding) -> lsp.Position:
    starts = [start for start in line_starts(text) if start <= offset]
    units = sum(width(character, encoding) for character in text[starts[-1] : offset])
    return lsp.Position(len(starts) - 1, units)


def change(
    span: tuple[lsp.Position, lsp.Position], text: str
) -> lsp.TextDocumentContentChangePartial:
    return lsp.TextDocumentContentChangePartial(range=lsp.Range(*span), text=text)


def opened(text: str, encoding: Encoding = Encoding.UTF16) -> DocumentStore:
    store = DocumentStore(encoding)
    store.open(URI, "python", 1, text)
    return store


def text_of(store: DocumentStore) -> str:
    snapshot = store.snapshot(URI)
    assert snapshot is not None
    return snapshot.text


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=250, deadline=None)
@given(text=texts, data=st.data())
def test_a_client_that_edits_by_offsets_never_drifts(
    encoding: Encoding, text: str, data: st.DataObject
) -> None:
    """The client keeps a string and sends positions computed from its own offsets."""
    store = opened(text, encoding)
    for version in range(2, 2 + data.draw(st.integers(1, 12))):
        start, end = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
        # No position lies between the two characters of a CRLF.
        start -= text[start - 1 : start + 1] == "\r\n"
        end -= text[end - 1 : end + 1] == "\r\n"
        new = data.draw(texts)
        span = (position_of(text, start, encoding), position_of(text, end, encoding))
        store.change(URI, version, [change(span, new)])
        text = text[:start] + new + text[end:]
        snapshot = store.snapshot(URI)
        assert snapshot is not None
        assert snapshot.text == text
        assert list(snapshot.lines) == split_lines(text)
        assert len(snapshot.lines) == len(line_starts(text))


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=250, deadline=None)
@given(text=texts, data=st.data())
def test_any_position_is_interpreted_as_specified(
    encoding: Encoding, text: str, data: st.DataObject
) -> None:
    """Also positions past an end or inside a character, and ranges that end before they start.

    In UTF-16 a position inside a character is between the halves of a surrogate pair, as in the
    client's own text; the reference is a text with one character for each code unit.
    """
    positions = st.builds(lsp.Position, line=st.integers(0, 9), character=st.integers(0, 40))
    store = opened(text, encoding)
    in_units = encoding is Encoding.UTF16
    text = "".join(map(chr, _units(text))) if in_units else text
    unit = Encoding.UTF32 if in_units else encoding
    for version in range(2, 2 + data.draw(st.integers(1, 6))):
        first, second, new = data.draw(positions), data.draw(positions), data.draw(texts)
        store.change(URI, version, [change((first, second), new)])
        start, end = sorted(offset_of(text, spot, unit) for spot in (first, second))
        new = "".join(map(chr, _units(new))) if in_units else new
        text = text[:start] + new + text[end:]
        assert list(_units(text_of(store))) == list(_units(text))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(content=texts.map(lambda text: text.replace("\r", "").replace("\n", "")))
def test_units_and_indices_are_inverse(encoding: Encoding, content: str) -> None:
    units = 0
    for index, character in enumerate(content):
        assert index_to_units(content, index, encoding) == units
        for inside in range(width(character, encoding)):
            assert units_to_index(content, units + inside, encoding) == index
        units += width(character, encoding)
    assert units_to_index(content, units, encoding) == len(content)
    assert units_to_index(content, units + 7, encoding) == len(content)


def test_only_lsp_line_ends_separate_lines() -> None:
    assert split_lines("a\fb\u2028c\x85d\x0be\nf\r\ng\rh") == [
        "a\fb\u2028c\x85d\x0be\n",
        "f\r\n",
        "g\r",
        "h",
    ]
    assert split_lines("") == [""]
    assert split_lines("a\n") == ["a\n", ""]


def test_positions_past_an_end_are_clamped() -> None:
    snapshot = opened("ab\r\ncd\n").snapshot(URI)
    assert snapshot is not None
    assert snapshot.place(lsp.Position(0, 99)) == Place(0, 2)
    assert snapshot.place(lsp.Position(2, 0)) == Place(2, 0), "the line after a trailing line end"
    assert snapshot.place(lsp.Position(2, 5)) == Place(2, 0)
    assert snapshot.place(lsp.Position(9, 1)) == Place(2, 0)
    position = lsp.Position(0, 99)
    snapshot.place(position)
    assert position == lsp.Position(0, 99), "the client's params are not ours to change"


def test_cr_and_lf_joined_by_an_edit_become_one_line_end() -> None:
    store = opened("a\rb\n")
    store.change(URI, 2, [change((lsp.Position(1, 0), lsp.Position(1, 1)), "")])
    snapshot = store.snapshot(URI)
    assert snapshot is not None
    assert list(snapshot.lines) == ["a\r\n", ""]


def test_an_astral_character_typed_as_two_halves_is_one_character() -> None:
    store = opened("x = ''")
    store.change(URI, 2, [change((lsp.Position(0, 5), lsp.Position(0, 5)), "\ud83d")])
    store.change(URI, 3, [change((lsp.Position(0, 6), lsp.Position(0, 6)), "\ude00")])
    assert text_of(store) == "x = '😀'"
    store.change(URI, 4, [change((lsp.Position(0, 5), lsp.Position(0, 7)), "y")])
    assert text_of(store) == "x = 'y'"


def test_changes_of_one_notification_build_on_each_other() -> None:
    store = opened("one")
    whole = lsp.TextDocumentContentChangeWholeDocument(text="two\n")
    store.change(URI, 2, [whole, change((lsp.Position(1, 0), lsp.Position(1, 0)), "three")])
    assert text_of(store) == "two\nthree"


def test_the_order_of_arrival_counts_and_not_the_version() -> None:
    store = opened("one")
    whole = lsp.TextDocumentContentChangeWholeDocument(text="two")
    store.change(URI, 5, [whole])
    store.change(URI, 4, [change((lsp.Position(0, 0), lsp.Position(0, 1)), "T")])
    store.change(URI, UNVERSIONED, [change((lsp.Position(0, 3), lsp.Position(0, 3)), "!")])
    snapshot = store.snapshot(URI)
    assert snapshot is not None
    assert (snapshot.text, snapshot.version) == ("Two!", 4)


def test_unknown_documents_are_not_changed() -> None:
    store = opened("one")
    whole = lsp.TextDocumentContentChangeWholeDocument(text="late")
    with pytest.raises(SyncError, match="not open"):
        store.change("file:///other.py", 1, [whole])
    assert text_of(store) == "one"
    store.close(URI)
    assert store.snapshot(URI) is None
    store.close(URI)
    with pytest.raises(SyncError, match="not open"):
        store.change(URI, 1, [whole])


def test_a_document_that_lost_a_change_is_found_again_with_its_whole_text() -> None:
    store = opened("one")
    store.lose(URI)
    assert store.snapshot(URI) is None
    with pytest.raises(SyncError, match="not open"):
        store.change(URI, 3, [change((lsp.Position(0, 0), lsp.Position(0, 1)), "T")])
    store.change(URI, 4, [lsp.TextDocumentContentChangeWholeDocument(text="whole")])
    snapshot = store.snapshot(URI)
    assert snapshot is not None
    assert (snapshot.text, snapshot.version, snapshot.language) == ("whole", 4, "python")
    store.lose("file:///never/opened.py")
    with pytest.raises(SyncError, match="not open"):
        store.change("file:///never/opened.py", 1, [whole_text("x")])


def whole_text(text: str) -> lsp.TextDocumentContentChangeWholeDocument:
    return lsp.TextDocumentContentChangeWholeDocument(text=text)


@given(st.data())
def test_halves_of_surrogate_pairs_are_edited_as_utf_16_text(data: st.DataObject) -> None:
    """Against the client's own view: a list of UTF-16 code units."""
    text = data.draw(st.text("a😀\né\U00010000", max_size=12))
    units = list(_units(text))
    store = opened(text)
    for version in range(2, 2 + data.draw(st.integers(1, 8))):
        first = data.draw(st.integers(0, len(units)))
        second = data.draw(st.integers(0, len(units)))
        new = data.draw(st.sampled_from(["", "x", "\ud83d", "\ude00", "😀", "\n"]))
        span = (_position_of(units, first), _position_of(units, second))
        store.change(URI, version, [change(span, new)])
        low, high = sorted((first, second))
        units[low:high] = _units(new)
        assert list(_units(text_of(store))) == units


def _units(text: str) -> list[int]:
    data = text.encode("utf-16-le", "surrogatepass")
    return [low + 256 * high for low, high in zip(data[::2], data[1::2], strict=True)]


def _position_of(units: list[int], index: int) -> lsp.Position:
    before = units[:index]
    line = before.count(0x0A)
    start = max((place + 1 for place, unit in enumerate(before) if unit == 0x0A), default=0)
    return lsp.Position(line, index - start)


def test_a_snapshot_outlives_the_edits_after_it() -> None:
    store = opened("one\ntwo\n")
    before = store.snapshot(URI)
    store.change(URI, 2, [change((lsp.Position(0, 0), lsp.Position(1, 3)), "")])
    after = store.snapshot(URI)
    assert before is not None
    assert after is not None
    assert (before.text, before.version) == ("one\ntwo\n", 1)
    assert (after.text, after.version) == ("\n", 2)
    assert before.revision < after.revision


def test_the_line_end_in_use_is_the_nearest_one() -> None:
    snapshot = opened("a\r\nb\nc\rd").snapshot(URI)
    assert snapshot is not None
    assert [snapshot.line_end(line) for line in range(4)] == ["\r\n", "\n", "\r", "\r"]
    empty = opened("").snapshot(URI)
    assert empty is not None
    assert empty.line_end(0) == "\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=250, deadline=None)
@given(text=texts, new=texts, data=st.data())
def test_replacing_a_text_gives_the_document_and_the_position_after_it(
    encoding: Encoding, text: str, new: str, data: st.DataObject
) -> None:
    start, end = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    start -= text[start - 1 : start + 1] == "\r\n"
    end -= text[end - 1 : end + 1] == "\r\n"
    snapshot = opened(text, encoding).snapshot(URI)
    assert snapshot is not None
    spots = (position_of(text, start, encoding), position_of(text, end, encoding))
    later, behind = snapshot.replacing(lsp.Range(*spots), new)
    whole, cursor = text[:start] + new + text[end:], start + len(new)
    assert later.text == whole
    assert snapshot.text == text, "the document itself stays"
    if whole[cursor - 1 : cursor + 1] != "\r\n":  # no position lies between the two
        assert offset_of(whole, behind, encoding) == cursor
