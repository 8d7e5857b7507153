"""While the editor's completion list is open, a suggestion extends the selected item."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from lsprotocol import types as lsp
from raw_client import INLINE, raw_client
from scripted import ScriptedBackend

from fim_server.completion.answer import Answer
from fim_server.completion.completer import Completer
from fim_server.completion.silence import Silence
from fim_server.documents.documents import DocumentStore, Encoding
from fim_server.documents.notebooks import NotebookStore
from fim_server.settings.settings import Settings

URI = "file:///a.py"


def span(line: int, start: int, end: int) -> lsp.Range:
    return lsp.Range(lsp.Position(line, start), lsp.Position(line, end))


class Desk:
    def __init__(self) -> None:
        self.backend = ScriptedBackend()
        self.documents = DocumentStore(Encoding.UTF16)
        self.notebooks = NotebookStore(self.documents)
        self.completer = Completer(
            self.documents, self.backend, Settings(), notebooks=self.notebooks
        )

    async def ask(
        self, line: int, character: int, where: lsp.Range, text: str, uri: str = URI
    ) -> Answer:
        return await self.completer.complete(
            uri,
            lsp.Position(line, character),
            lsp.InlineCompletionTriggerKind.Automatic,
            selected=lsp.SelectedCompletionInfo(range=where, text=text),
        )


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.completer.start(lambda what, share: None)
    yield made
    await made.completer.close()


async def test_the_answer_begins_with_the_item_and_has_its_range(desk: Desk) -> None:
    desk.documents.open(URI, "python", 1, "first\n#say (1). # rest\n")
    where = span(1, 8, 9)
    answer = await desk.ask(1, 9, where, ".log")
    assert [(item.insert_text, item.range) for item in answer.items] == [(".log(1).log", where)]
    [asked] = desk.backend.asked
    assert (asked.prefix, asked.suffix) == ("first\n#say (1).log", " # rest\n")


async def test_a_range_beyond_the_cursor_is_fully_replaced(desk: Desk) -> None:
    desk.documents.open(URI, "python", 1, "#say 1 oldname = 2\n")
    answer = await desk.ask(0, 10, span(0, 7, 14), "newname")
    assert answer.items[0].range == span(0, 7, 14)
    [asked] = desk.backend.asked
    assert (asked.prefix, asked.suffix) == ("#say 1 newname", " = 2\n")


async def test_positions_use_the_clients_encoding_and_line_ends_are_kept(desk: Desk) -> None:
    desk.documents.open(URI, "python", 1, "😀 = 1\r\n😀 #say a\\nb.\r\n")
    where = span(1, 12, 13)
    answer = await desk.ask(1, 13, where, ".😀")
    assert answer.items[0].insert_text == ".😀a\r\nb.😀"
    assert answer.items[0].range == where
    assert desk.backend.asked[0].prefix == "😀 = 1\n😀 #say a\\nb.😀"


async def test_in_a_notebook_the_range_is_the_cells(desk: Desk) -> None:
    for name, text in (("one", "x = 1\n"), ("two", "y\n#say 1.")):
        desk.documents.open(f"cell:{name}", "python", 1, text)
    cells = [lsp.NotebookCell(lsp.NotebookCellKind.Code, f"cell:{name}") for name in ("one", "two")]
    desk.notebooks.open("file:///a.ipynb", cells)
    where = span(1, 6, 7)
    answer = await desk.ask(1, 7, where, ".log", "cell:two")
    assert answer.items[0].range == where
    assert desk.backend.asked[0].prefix == "x = 1\n\ny\n#say 1.log"


@pytest.mark.parametrize("where", [span(0, 8, 9), span(0, 2, 4), span(1, 0, 7), span(0, 9, 2)])
async def test_an_item_not_at_the_cursor_is_a_silence_reason(desk: Desk, where: lsp.Range) -> None:
    desk.documents.open(URI, "python", 1, "#say 1 x.y\n#say 2 z")
    answer = await desk.ask(0, 5, where, "item")
    assert answer.silence is Silence.SELECTED_ITEM_ELSEWHERE
    assert desk.backend.asked == []


async def test_after_accepting_the_item_the_rest_is_cached(desk: Desk) -> None:
    desk.documents.open(URI, "python", 1, "#say (1).\n")
    await desk.ask(0, 9, span(0, 8, 9), ".log")
    desk.documents.open(URI, "python", 2, "#say (1).log\n")
    automatic = lsp.InlineCompletionTriggerKind.Automatic
    answer = await desk.completer.complete(URI, lsp.Position(0, 12), automatic)
    assert (answer.items[0].insert_text, answer.cached) == ("(1).log", True)
    assert len(desk.backend.asked) == 1


async def test_another_item_is_another_request(desk: Desk) -> None:
    desk.documents.open(URI, "python", 1, "#say (1).\n")
    for text in (".log", ".warn", ".log"):
        answer = await desk.ask(0, 9, span(0, 8, 9), text)
        assert answer.items[0].insert_text == f"{text}(1){text}"
    assert len(desk.backend.asked) == 2


async def test_over_the_wire() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say (1).")
        where = {"start": {"line": 0, "character": 8}, "end": {"line": 0, "character": 9}}
        params = {
            "textDocument": {"uri": URI},
            "position": {"line": 0, "character": 9},
            "context": {
                "triggerKind": 2,
                "selectedCompletionInfo": {"range": where, "text": ".log"},
            },
        }
        while not (items := (await client.ask(INLINE, params))["items"]):
            pass  # the model is being loaded
        assert [(item["insertText"], item["range"]) for item in items] == [(".log(1).log", where)]
        await client.leave()
