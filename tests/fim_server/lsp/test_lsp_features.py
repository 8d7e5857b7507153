"""Changing settings, folders, notebooks, status and feedback of the real server process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raw_client import INLINE, RawClient, inline_params, raw_client

from fim_server.completion.statistics import read_statistics

URI = "file:///project/a.py"
STATUS = "didChangeStatus"
Json = dict[str, Any]


def files_named(name: str, folder: Path) -> list[str]:
    """The contents of all files with a name."""
    return [file.read_text() for file in folder.rglob(name)]


async def settled(client: RawClient) -> None:
    """Wait until the model is loaded and everything sent before has been handled."""
    await client.notified(STATUS, 2)
    await client.complete(URI, 0, 0)


def places(home: Path) -> dict[str, str]:
    names = ("CONFIG", "STATE", "DATA", "CACHE")
    return {f"XDG_{name}_HOME": str(home / name.lower()) for name in names}


async def test_pushed_configuration_takes_effect_at_once() -> None:
    async with raw_client() as client:
        await client.initialize({"alternatives": 2})
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2"]

        def push(section: object) -> None:
            client.notify("workspace/didChangeConfiguration", {"settings": {"fim": section}})

        push({"alternatives": 3, "enable": {"*": True}})
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2", "x 3"]
        push({"disabledLanguages": ["python"]})
        assert await client.complete(URI, 0, 6, kind=1) == []
        push({"alternatives": "many"})
        [message] = await client.notified("window/logMessage")
        assert message["message"].startswith(
            "setting alternatives: 'many' is not used: expected a whole"
        )
        assert message["message"].endswith("; keeping 2")
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2"]
        push({"alternatives": "many"})
        await client.complete(URI, 0, 6)
        assert len(await client.notified("window/logMessage")) == 1, "told once"


async def test_configuration_is_pulled_after_an_empty_change_notification() -> None:
    async with raw_client() as client:
        client.replies["workspace/configuration"] = [{"alternatives": 1}]
        await client.initialize(workspace={"configuration": True})
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2", "x 3"]
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        [asked] = await client.notified("workspace/configuration")
        assert asked == {"items": [{"section": "fim"}]}
        assert await client.complete(URI, 0, 6, kind=1) == ["x"]


async def test_another_model_is_loaded_when_the_setting_changes() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        await settled(client)
        change = {"settings": {"fim": {"model": "/another"}}}
        client.notify("workspace/didChangeConfiguration", change)
        await client.complete(URI, 0, 6)
        loads = [
            status for status in await client.notified(STATUS, 4) if "Loading" in status["message"]
        ]
        assert len({id(status) for status in loads}) >= 2
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_the_editors_settings_override_the_users_file(tmp_path: Path) -> None:
    env = places(tmp_path)
    file = tmp_path / "config" / "fim-server" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("alternatives = 1\nmaxLines = 0\n")
    async with raw_client(env=env) as client:
        await client.initialize()
        [message] = await client.notified("window/logMessage")
        assert f"{file}: setting maxLines: 0 is not used" in message["message"]
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6, kind=1) == ["x"]
    async with raw_client(env=env) as client:
        await client.initialize({"alternatives": 2})
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2"]


async def test_excluded_documents_of_any_workspace_folder(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".fimignore").write_text(f"{name}.py")
        folders.append({"uri": (tmp_path / name).as_uri(), "name": name})
    async with raw_client() as client:
        await client.ask(
            "initialize",
            {"processId": None, "capabilities": {}, "workspaceFolders": folders[:1]},
        )
        client.notify("initialized", {})

        async def shown(name: str) -> list[str]:
            uri = (tmp_path / name).as_uri()
            client.open(uri, "#say x")
            return await client.complete(uri, 0, 6)

        assert await shown("one/one.py") == []
        assert await shown("one/two.py") == ["x"]
        change = {"event": {"added": folders[1:], "removed": []}}
        client.notify("workspace/didChangeWorkspaceFolders", change)
        assert await shown("two/two.py") == []
        assert await shown("two/.env") == []


async def test_what_only_the_editor_excludes_is_recorded_for_commands(tmp_path: Path) -> None:
    (project := tmp_path / "project").mkdir()
    env = places(tmp_path)

    def recorded() -> list[list[str]]:
        rules = (tmp_path / "data" / "fim-server" / "exclusions").glob("*.json")
        return [json.loads(file.read_text())["exclude"] for file in rules]

    async with raw_client(env=env) as client:
        folder = {"uri": project.as_uri(), "name": "project"}
        options = {"exclude": ["private/"]}
        await client.ask(
            "initialize",
            {
                "processId": None, "capabilities": {}, "workspaceFolders": [folder],
                "initializationOptions": options, "clientInfo": {"name": "editor"},
            },
        )  # fmt: skip
        assert recorded() == [["private/"]]
        client.notify("initialized", {})

        async def push(exclude: list[str]) -> None:
            section = {"settings": {"fim": {"exclude": exclude}}}
            client.notify("workspace/didChangeConfiguration", section)
            client.open(URI, "#say x")
            await client.complete(URI, 0, 6)

        await push(["private/", "own.py"])
        assert recorded() == [["private/", "own.py"]]
        await push([])
        assert recorded() == []


async def test_unsaved_and_renamed_documents() -> None:
    async with raw_client() as client:
        await client.initialize()
        for uri in ("untitled:Untitled-1", "untitled:/x/new.py", "vsls:/a.py", "inmemory://m/1"):
            client.open(uri, "#say x")
            assert await client.complete(uri, 0, 6) == ["x"], uri
        client.open("untitled:.env", "#say x")
        assert await client.complete("untitled:.env", 0, 6) == []
        old, new = "file:///project/old.py", "file:///project/new.py"
        client.open(old, "#say old")
        client.notify("textDocument/didClose", {"textDocument": {"uri": old}})
        client.open(new, "#say old")
        client.change(new, 2, (0, 5), (0, 8), "new")
        assert await client.complete(new, 0, 8) == ["new"]
        assert await client.complete(old, 0, 8) == []


def cell(number: int, language: str, text: str) -> Json:
    uri = f"vscode-notebook-cell:/project/n.ipynb#{number}"
    return {"uri": uri, "languageId": language, "version": 1, "text": text}


def notebook(path: str, cells: list[Json]) -> Json:
    return {
        "notebookDocument": {
            "uri": f"file://{path}",
            "notebookType": "jupyter-notebook",
            "version": 1,
            "cells": [{"kind": 2, "document": cell["uri"]} for cell in cells],
        },
        "cellTextDocuments": cells,
    }


async def test_a_notebooks_cells_form_one_text() -> None:
    async with raw_client() as client:
        await client.initialize()
        cells = [
            cell(0, "python", "import a"),
            cell(1, "markdown", "#say no"),
            cell(2, "python", "x = 1\n#around\n"),
            cell(3, "python", "y = 2"),
        ]
        client.notify("notebookDocument/didOpen", notebook("/project/n.ipynb", cells))
        uri = cells[2]["uri"]
        answer = await client.ask(INLINE, inline_params(uri, 1, 7))
        item = answer["items"][0]
        assert item["insertText"] == "'import a\\nx = 1\\n#around' '\\n\\ny = 2'"
        assert item["range"]["start"] == {"line": 1, "character": 7}, "the cell's own position"

        change = {
            "notebookDocument": {"uri": "file:///project/n.ipynb", "version": 2},
            "change": {
                "cells": {
                    "structure": {
                        "array": {"start": 0, "deleteCount": 2, "cells": []},
                        "didClose": [{"uri": cells[0]["uri"]}, {"uri": cells[1]["uri"]}],
                    },
                    "textContent": [
                        {
                            "document": {"uri": cells[3]["uri"], "version": 2},
                            "changes": [{"text": "z = 3"}],
                        }
                    ],
                }
            },
        }
        client.notify("notebookDocument/didChange", change)
        [text] = await client.complete(uri, 1, 7)
        assert text == "'x = 1\\n#around' '\\n\\nz = 3'"
        assert await client.complete(cells[0]["uri"], 0, 0) == []
        assert await client.complete(uri, 99, 99) != [], "past the cell's end is its end"
        closed = {
            "notebookDocument": {"uri": "file:///project/n.ipynb"},
            "cellTextDocuments": [{"uri": uri}, {"uri": cells[3]["uri"]}],
        }
        client.notify("notebookDocument/didClose", closed)
        assert await client.complete(uri, 1, 7) == []


async def test_an_excluded_notebook_is_not_completed() -> None:
    async with raw_client() as client:
        await client.initialize({"exclude": ["private/"]})
        cells = [cell(0, "python", "#say x")]
        client.notify("notebookDocument/didOpen", notebook("/private/n.ipynb", cells))
        assert await client.complete(cells[0]["uri"], 0, 6) == ["x"], "outside of any folder"
        client.notify("notebookDocument/didClose", notebook("/private/n.ipynb", cells))
        client.notify("notebookDocument/didOpen", notebook("/project/prod.env", cells))
        assert await client.complete(cells[0]["uri"], 0, 6) == [], "the notebook's name counts"


async def test_status_from_loading_to_ready_to_inactive() -> None:
    async with raw_client(env={"SCRIPTED_LOADS_FOR": "0.3"}) as client:
        await client.initialize({"disabledLanguages": ["python"]})
        client.open(URI, "#say x")
        first = await client.notified(STATUS, 3)
        assert first == [
            {"busy": True, "message": "Loading the model (0 %)", "kind": "Normal", "why": ""},
            {"busy": True, "message": "Loading (50 %)", "kind": "Normal", "why": ""},
            {"busy": False, "message": "", "kind": "Normal", "why": ""},
        ]
        await client.complete(URI, 0, 6)
        busy, inactive = (await client.notified(STATUS, 5))[3:]
        assert busy == {"busy": True, "message": "", "kind": "Normal", "why": ""}
        message = "language_disabled: python"
        why = "suggestions are off for this language (setting disabledLanguages) (python)"
        assert inactive == {"busy": False, "message": message, "kind": "Inactive", "why": why}
        await client.complete(URI, 0, 6)
        assert len(await client.notified(STATUS, 5)) == 5, "said once"


async def test_a_failed_load_is_an_error_with_a_remedy() -> None:
    async with raw_client(env={"SCRIPTED_LOAD_PROBLEM": "x: no such folder; choose one"}) as client:
        await client.initialize()
        told = (await client.notified(STATUS, 3))[-1]
        message = "x: no such folder; choose one"
        assert told == {"busy": False, "message": message, "kind": "Error", "why": ""}
        client.open(URI, "#say x")
        await client.complete(URI, 0, 6)
        assert (await client.notified(STATUS, 3))[-1] == told


async def test_a_failed_request_is_a_warning_until_one_succeeds() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#fail boom\n#say x")
        await settled(client)
        seen = len(await client.notified(STATUS))
        await client.complete(URI, 0, 10)
        busy, warning = (await client.notified(STATUS, seen + 2))[seen:]
        assert busy == {"busy": True, "message": "", "kind": "Normal", "why": ""}
        message = "the last request failed: boom"
        why = "the model failed on this request; the log says how (boom)"
        assert warning == {"busy": False, "message": message, "kind": "Warning", "why": why}
        assert await client.complete(URI, 1, 6) == ["x"]
        assert (await client.notified(STATUS, seen + 3))[-1]["kind"] == "Normal"


async def test_feedback_is_counted_once_and_kept_locally(tmp_path: Path) -> None:
    async with raw_client(env=places(tmp_path)) as client:
        await client.initialize()
        client.open(URI, "#say secret😀")
        items = []
        for _ in range(3):
            answer = await client.ask(INLINE, inline_params(URI, 0, 99))
            items += answer["items"]
        assert len({item["command"]["arguments"][0] for item in items}) == 3
        for item in (items[0], items[0], items[1]):
            client.notify("textDocument/didShowCompletion", {"item": item})
        for length in (2, 5, 3, 999, -4, "x"):
            params = {"item": items[1], "acceptedLength": length}
            client.notify("textDocument/didPartiallyAcceptCompletion", params)
        for _ in range(2):
            assert await client.ask("workspace/executeCommand", items[0]["command"]) is None
        for broken in ({}, {"item": None}, {"item": {"command": {"arguments": [7]}}}, None):
            client.notify("textDocument/didShowCompletion", broken)
            client.notify("textDocument/didPartiallyAcceptCompletion", broken)
            client.notify("textDocument/didFocus", broken)
        for arguments in ([], [7], ["unknown"], [[]], None):
            command = {"command": items[0]["command"]["command"], "arguments": arguments}
            await client.answer(client.request("workspace/executeCommand", command))
        client.notify("textDocument/didFocus", {"textDocument": {"uri": URI}})
        await client.complete("file:///none.py", 0, 0)
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr
    file = tmp_path / "state" / "fim-server" / "statistics.jsonl"
    [counts] = read_statistics(file).values()
    assert counts == {
        "requests": 4,
        "offered": 3,
        "silence.unknown_document": 1,
        "shown": 2,
        "partly_accepted": 1,
        "accepted": 1,
        "characters": 8 + 8,
    }
    assert "secret" not in file.read_text()


async def test_no_statistics_if_disabled(tmp_path: Path) -> None:
    async with raw_client(env=places(tmp_path)) as client:
        await client.initialize({"statistics": False})
        client.open(URI, "#say x")
        [item] = (await client.ask(INLINE, inline_params(URI, 0, 6)))["items"]
        assert "command" not in item
        assert await client.leave() == 0
    assert files_named("statistics.jsonl", tmp_path) == []


async def test_the_log_is_also_written_to_a_file_without_code(tmp_path: Path) -> None:
    async with raw_client(env=places(tmp_path)) as client:
        await client.initialize({"logLevel": "debug"})
        client.open(URI, "#say my_secret")
        assert await client.complete(URI, 0, 99) == ["my_secret"]
        assert await client.leave() == 0
    [log] = files_named("lsp.log", tmp_path)
    assert "inline completion: 1 items" in log
    assert "my_secret" not in log


def test_invalid_lines_of_statistics_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "statistics.jsonl"
    lines = ["", "{", "[]", "7", '{"shown": 1}', '{"day": "2026-01-02", "shown": "x"}']
    lines += [json.dumps({"day": f"2026-01-0{day}", "shown": day}) for day in (2, 1, 2)]
    file.write_text("\n".join(lines))
    assert read_statistics(file) == {"2026-01-01": {"shown": 1}, "2026-01-02": {"shown": 4}}
    assert read_statistics(tmp_path / "none") == {}


async def test_only_a_client_that_announces_it_is_told_the_status() -> None:
    """Others log a warning about each notification that they do not know."""
    copilot = {"editorPluginInfo": {"name": "copilot.lua"}}
    for options, experimental in (
        (None, {}),
        (None, {"fim": {}}),
        (None, {"fim": {"status": False, "nextEdit": True}}),
        (copilot, {"fim": {"status": False}}),
        ({"editorPluginInfo": 5}, {"fim": True}),
        ({"editorPluginInfo": {}}, None),
    ):
        async with raw_client() as client:
            await client.initialize(options, experimental=experimental)
            client.open(URI, "#say x")
            assert await client.complete(URI, 0, 6) == ["x"]
            assert await client.leave() == 0
            methods = {message["method"] for message in client.notifications}
        assert STATUS not in methods, experimental
        assert all(method.startswith(("window/", "$/")) for method in methods), methods


async def test_clients_of_copilots_protocol_and_older_plugins_are_told_the_status() -> None:
    copilot = {"editorInfo": {"name": "Neovim"}, "editorPluginInfo": {"name": "copilot.lua"}}
    for options, experimental in ((copilot, {}), (None, {"fim": {"nextEdit": False}})):
        async with raw_client() as client:
            await client.initialize(options, experimental=experimental)
            await client.notified(STATUS, 2)


async def test_the_rest_of_a_line_is_replaced_where_the_client_shows_it() -> None:
    asked = "#say self, x):"
    for replaces, text, width in ((True, "self, x):", 1), (False, "self, x", 0)):
        async with raw_client() as client:
            fim = {"status": True, "replaceRest": replaces}
            await client.initialize(experimental={"fim": fim})
            client.open(URI, f"𝒳\n{asked})\n")
            result = await client.ask(INLINE, inline_params(URI, 1, len(asked)))
        [item] = result["items"]
        assert item["insertText"] == text
        start, end = item["range"]["start"], item["range"]["end"]
        assert (start, end["character"]) == ({"line": 1, "character": 14}, 14 + width)


async def test_typing_through_a_bracket_that_the_editor_closes_keeps_the_suggestion() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say (a, b)\n")
        assert await client.complete(URI, 0, 11) == ["(a, b)"]
        client.change(URI, 2, (0, 11), (0, 11), "()")
        assert await client.complete(URI, 0, 12) == ["a, b"]
        client.change(URI, 3, (0, 12), (0, 12), "a,")
        assert await client.complete(URI, 0, 14) == [" b"]
