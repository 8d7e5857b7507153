"""The cost of typing does not depend on the document's size. Work is counted, not timed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from lsprotocol import types as lsp
from scripted import ScriptedBackend

from fim_server.completion import hole
from fim_server.completion.completer import Completer
from fim_server.documents import documents
from fim_server.documents.documents import DocumentStore
from fim_server.settings.settings import Settings

URI = "file:///large.py"
KEYSTROKES = 50


class Counted(list[str]):
    """Lines that count accesses."""

    looks = 0

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        Counted.looks += len(range(*key.indices(len(self)))) if isinstance(key, slice) else 1
        return super().__getitem__(key)  # type: ignore[call-overload]


@pytest.fixture
def split_chars(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the lengths of all texts that are split into lines."""
    lengths: list[int] = []
    original = documents.split_lines

    def counting(text: str) -> list[str]:
        lengths.append(len(text))
        return original(text)

    monkeypatch.setattr(documents, "split_lines", counting)
    return lengths


def type_in(store: DocumentStore, line: int, character: int) -> None:
    for number in range(KEYSTROKES):
        spot = lsp.Position(line, character + number)
        change = lsp.TextDocumentContentChangePartial(range=lsp.Range(spot, spot), text="x")
        store.change(URI, number + 2, [change])


@pytest.fixture
def converted_chars(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the lengths of all lines in which positions are converted between encodings."""
    lengths: list[int] = []
    for name in ("_index_at", "index_to_units"):
        original = getattr(documents, name)

        def counting(content: str, number: int, encoding: object, original: Any = original) -> Any:
            lengths.append(0 if content.isascii() else len(content))
            return original(content, number, encoding)

        monkeypatch.setattr(documents, name, counting)
    return lengths


def test_an_edit_of_50000_lines_splits_no_other_line(split_chars: list[int]) -> None:
    store = DocumentStore()
    store.open(URI, "python", 1, "value = function(argument)\n" * 50_000)
    split_chars.clear()
    type_in(store, 25_000, 5)
    assert split_chars == [], "a character splits nothing"
    spot = lsp.Position(25_000, 5)
    line_end = lsp.TextDocumentContentChangePartial(range=lsp.Range(spot, spot), text="\n")
    store.change(URI, 100, [line_end])
    assert split_chars == [27 + KEYSTROKES + 1]


@pytest.mark.parametrize("character", ["a", "é", "😀"])
async def test_a_keystroke_in_a_one_megabyte_line_converts_it_three_times(
    split_chars: list[int], converted_chars: list[int], character: str
) -> None:
    """Never split; converted for the change, for the cursor and for the answer."""
    store = DocumentStore()
    store.open(URI, "python", 1, character * 1_000_000)
    completer = Completer(store, ScriptedBackend(), Settings(speculate=False))
    await completer.start(lambda what, share: None)
    split_chars.clear()
    middle = 500_000 * len(character.encode("utf-16-le")) // 2
    spot = lsp.Position(0, middle)
    change = lsp.TextDocumentContentChangePartial(range=lsp.Range(spot, spot), text="x")
    store.change(URI, 2, [change])
    cursor = lsp.Position(0, middle + 1)
    await completer.complete(URI, cursor, lsp.InlineCompletionTriggerKind.Automatic)
    await completer.close()
    assert split_chars == []
    assert len([length for length in converted_chars if length]) == (3 if character != "a" else 0)


def test_a_window_in_50000_lines_accesses_only_its_own_lines() -> None:
    store = DocumentStore()
    store.open(URI, "python", 1, "value = function(argument)\n" * 50_000)
    snapshot = store.snapshot(URI)
    assert snapshot is not None
    counted = dataclasses.replace(snapshot, lines=Counted(snapshot.lines))
    Counted.looks = 0
    seen = hole.budgeted_hole(counted, lsp.Position(25_000, 8), Settings())
    assert len(seen.before) > 1000
    assert Counted.looks < 2000


@pytest.mark.parametrize("character", ["a", "é", "😀"])
async def test_a_one_megabyte_line_is_completed_within_the_window(character: str) -> None:
    store = DocumentStore()
    store.open(URI, "python", 1, character * 1_000_000)
    backend = ScriptedBackend()
    completer = Completer(store, backend, Settings())
    await completer.start(lambda what, share: None)
    units = 1 if character < "\uffff" else 2
    type_in(store, 0, 500_000 * units)
    cursor = lsp.Position(0, 500_000 * units + KEYSTROKES)
    answer = await completer.complete(URI, cursor, lsp.InlineCompletionTriggerKind.Automatic)
    await completer.close()
    [request] = backend.asked
    assert request.prefix.endswith("x" * KEYSTROKES)
    assert len(request.prefix) <= Settings().prefix_chars
    assert len(request.suffix) <= Settings().suffix_chars
    assert request.max_lines == 1
    assert answer.items or answer.silence
