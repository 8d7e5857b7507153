"""Messages that deviate from the specification in form, against the real server process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from raw_client import raw_client

URI = "file:///project/a.py"
START, HERE = {"line": 0, "character": 0}, {"line": 0, "character": 6}


def whole(text: Any, **more: Any) -> dict[str, Any]:
    return {"text": text, **more}


@pytest.mark.parametrize(
    ("change", "version", "answer"),
    [
        (whole("#say all"), 2, "all"),
        (whole("#say all", range=None), 2, "all"),
        (whole("#say all", range=None, rangeLength=None), 2, "all"),
        (whole("#say all", rangeLength=3), 2, "all"),
        (whole("#say all"), None, "all"),
        (whole("#say all"), ..., "all"),
        (whole("#say all"), "2", "all"),
        (whole("#say all"), 2.0, "all"),
        (whole("#say all"), -7, "all"),
        (whole("#say all"), 2**40, "all"),
        (whole("y", range={"start": {"line": 0, "character": 5}, "end": HERE}), None, "y"),
        (whole("y", range={"start": HERE, "end": {"line": 0, "character": 5}}), ..., "y"),
        (whole("!", range={"start": HERE, "end": {"line": 0, "character": 2**40}}), 2, "x!"),
        (whole("!", range={"start": HERE, "end": {"line": 2**31, "character": 0}}), 2, "x!"),
        (whole("!", range={"start": {"line": 0.0, "character": 6.0}, "end": HERE}), 2, "x!"),
        (whole("!", range={"start": HERE, "end": HERE}, rangeLength="none"), 2, "x!"),
    ],
)
async def test_a_change_with_one_meaning_is_applied(change: Any, version: Any, answer: str) -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        document = {"uri": URI} if version is ... else {"uri": URI, "version": version}
        params = {"textDocument": document, "contentChanges": [change]}
        client.notify("textDocument/didChange", params)
        assert await client.complete(URI, 0, 99) == [answer]
        client.change(URI, 9, (0, 0), (0, 0), "    ")
        assert await client.complete(URI, 0, 99) == [answer], "and the document is in step"


@pytest.mark.parametrize(
    "change",
    [
        whole(None),
        whole(3),
        {"range": None},
        None,
        "text",
        whole("y", range={"start": START}),
        whole("y", range={"start": {"line": -1, "character": 0}, "end": HERE}),
        whole("y", range={"start": {"line": "0", "character": None}, "end": HERE}),
        whole("y", range=[START, HERE]),
    ],
)
async def test_a_change_without_meaning_loses_the_text_until_the_whole_text_arrives(
    change: Any,
) -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        document = {"uri": URI, "version": 2}
        params = {"textDocument": document, "contentChanges": [change]}
        client.notify("textDocument/didChange", params)
        assert await client.complete(URI, 0, 99) == []
        client.change(URI, 3, (0, 0), (0, 0), "#say drifted")
        assert await client.complete(URI, 0, 99) == []
        params = {"textDocument": document, "contentChanges": [whole("#say again")]}
        client.notify("textDocument/didChange", params)
        assert await client.complete(URI, 0, 99) == ["again"]


async def test_changes_that_are_no_list_are_one() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        params = {"textDocument": {"uri": URI, "version": 2}, "contentChanges": whole("#say y")}
        client.notify("textDocument/didChange", params)
        assert await client.complete(URI, 0, 6) == ["y"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"context": None},
        {"context": {}},
        {"context": {"triggerKind": 0}},
        {"context": {"triggerKind": "Invoked", "selectedCompletionInfo": None}},
        {"context": {"triggerKind": 2.0, "selectedCompletionInfo": {"text": None, "range": {}}}},
        {"context": {"triggerKind": 3, "selectedCompletionInfo": {"text": "x", "range": None}}},
        {"position": {"line": 0, "character": 2**40}},
        {"position": {"line": 0.0, "character": 6.0}},
    ],
)
async def test_a_completion_with_an_odd_context_is_automatic(more: Any) -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        params = {"textDocument": {"uri": URI}, "position": HERE, **more}
        result = await client.ask("textDocument/inlineCompletion", params)
        assert [item["insertText"] for item in result["items"]] == ["x"]


async def test_a_change_in_another_encoding_keeps_the_document_in_step() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        change = whole("\u00e9\u00e9#say y")
        params = {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [change]}
        message = {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": params}
        client.send_bodies(json.dumps(message, ensure_ascii=False).encode("latin-1"))
        client.change(URI, 3, (0, 7), (0, 8), "z")
        assert await client.complete(URI, 0, 8) == ["z"]
        assert await client.leave() == 0


async def test_half_of_a_surrogate_pair_is_edited() -> None:
    """As a client with UTF-16 positions does it when its user deletes code units."""
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "😀#say x")
        client.change(URI, 2, (0, 0), (0, 1), "")
        client.change(URI, 3, (0, 1), (0, 7), "#say y")
        assert await client.complete(URI, 0, 7) == ["y"]
        client.change(URI, 4, (0, 0), (0, 0), "\ud83d")
        client.change(URI, 5, (0, 2), (0, 8), "#say z")
        assert await client.complete(URI, 0, 8) == ["z"]


@pytest.mark.parametrize(
    "document",
    [
        {"uri": URI, "text": "#say x"},
        {"uri": URI, "text": "#say x", "version": None, "languageId": None},
        {"uri": URI, "text": "#say x", "version": 1.0, "languageId": 7},
    ],
)
async def test_a_document_is_opened_without_language_or_version(document: object) -> None:
    async with raw_client() as client:
        await client.initialize()
        client.notify("textDocument/didOpen", {"textDocument": document})
        assert await client.complete(URI, 0, 6) == ["x"]


@pytest.mark.parametrize(
    "more",
    [
        {"trace": "compact"},
        {"clientInfo": {}},
        {"clientInfo": None, "locale": 3},
        {"processId": "12", "rootUri": 5, "rootPath": []},
        {"rootUri": "file://["},
        {"rootUri": "file:///\ud800"},
        {"rootUri": "", "workspaceFolders": []},
        {"workspaceFolders": [{"uri": "file:///x"}, {"name": "y"}, 7, {"uri": "file:///\ud800"}]},
        {"workspaceFolders": {}},
        {"capabilities": None},
        {"capabilities": {"window": True}},
        {"capabilities": {"window": {"workDoneProgress": "yes"}, "workspace": 1}},
        {"capabilities": {"workspace": {"symbol": {"symbolKind": {"valueSet": [1, 2, 999]}}}}},
        {"capabilities": {"textDocument": {"completion": {"completionItem": {"tagSupport": 1}}}}},
        {"capabilities": {"textDocument": {"foldingRange": {"rangeLimit": -1}}, "odd": {"x": 1}}},
        {"capabilities": {"workspace": {"workspaceEdit": {"resourceOperations": ["paint"]}}}},
        {"initializationOptions": {"class": 1, "a b": 2, "": [{}]}},
        {"initializationOptions": "mode"},
        {"workDoneToken": {}},
        {"unknown": {"uri": None}},
    ],
)
async def test_initialize_with_odd_values_starts_the_server(more: dict[str, Any]) -> None:
    async with raw_client() as client:
        params = {"processId": None, "rootUri": None, "capabilities": {}, **more}
        result = await client.ask("initialize", params)
        assert result["capabilities"]["inlineCompletionProvider"] == {}
        client.notify("initialized", {})
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_odd_workspace_folders_are_skipped() -> None:
    async with raw_client() as client:
        await client.initialize()
        event = {"added": [{"uri": "file:///x"}, None, {"uri": "file:///\ud800", "name": None}]}
        client.notify("workspace/didChangeWorkspaceFolders", {"event": event})
        client.notify("workspace/didChangeWorkspaceFolders", {"event": {"removed": None}})
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_a_notebook_cell_is_changed_without_a_version() -> None:
    cell, notebook = "vscode-notebook-cell:/n.ipynb#1", "file:///n.ipynb"
    async with raw_client() as client:
        await client.initialize(notebookDocument={"synchronization": {}})
        document = {"uri": notebook, "notebookType": "x", "version": None}
        document["cells"] = [{"kind": 2, "document": cell}]
        texts = [{"uri": cell, "text": "#say x"}]
        params: Any = {"notebookDocument": document, "cellTextDocuments": texts}
        client.notify("notebookDocument/didOpen", params)
        assert await client.complete(cell, 0, 6) == ["x"]
        changes = [{"document": {"uri": cell}, "changes": [whole("#say y", range=None)]}]
        change = {"cells": {"textContent": changes}}
        params = {"notebookDocument": {"uri": notebook}, "change": change}
        client.notify("notebookDocument/didChange", params)
        assert await client.complete(cell, 0, 6) == ["y"]
