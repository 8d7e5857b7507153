"""Edits by instruction and questions, asked of the real server process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from raw_client import RawClient, raw_client

pytestmark = pytest.mark.timeout(120)

URI = "file:///project/a.py"
CODE = 'def f(x):\r\n    y = x  # "😀" x\r\n    # one\r\n    # two\r\n    return x\r\n'
FOLLOWS = {"SCRIPTED_ASSISTANT": "yes"}
CLIENT = {
    "workspace": {"workspaceEdit": {"documentChanges": True}},
    "experimental": {"fim": {"instruct": True, "status": True}},
}
Json = dict[str, Any]


def span(first: int, begin: int, last: int, end: int) -> Json:
    return {
        "start": {"line": first, "character": begin},
        "end": {"line": last, "character": end},
    }


async def opened(client: RawClient, uri: str = URI, **more: Any) -> Json:
    result: Json = await client.initialize(**CLIENT, **more)
    await client.notified("didChangeStatus", 2)
    client.open(uri, CODE)
    return result


async def instruct(client: RawClient, instruction: str, **more: Any) -> Json:
    asked = {"uri": URI, "version": 1, "range": span(0, 0, 4, 3), "instruction": instruction}
    return await client.answer(
        client.request(
            "workspace/executeCommand",
            {"command": "fim.instruct", "arguments": [asked | more]},
        )
    )


async def titles(client: RawClient, only: list[str] | None = None, **where: int) -> list[str]:
    context = {"diagnostics": [], "triggerKind": 1} | ({"only": only} if only else {})
    asked = {"textDocument": {"uri": URI}, "range": span(0, 0, 4, 3) | where, "context": context}
    return [found["title"] for found in await client.ask("textDocument/codeAction", asked)]


def texts(edits: list[Json]) -> list[tuple[int, str]]:
    return [(edit["range"]["start"]["line"], edit["text"]) for edit in edits]


async def test_each_hunk_is_an_edit_of_its_own() -> None:
    async with raw_client(env=FOLLOWS) as client:
        result = await opened(client)
        assert "fim.instruct" in result["capabilities"]["executeCommandProvider"]["commands"]
        edits = (await instruct(client, "x z"))["result"]["edits"]
        first, last = edits
        assert [hunk["text"] for hunk in first["hunks"]] == ["z", "z", "z"], "the lines touch"
        assert last["hunks"] == [{"text": "z", "range": span(4, 11, 4, 12)}]
        assert first["textDocument"] == {"uri": URI, "version": 1}
        # The smiley is two units of UTF-16.
        assert first["hunks"][-1]["range"] == span(1, 18, 1, 19)
        # Line ends are the document's.
        answer = await instruct(client, "two 2\\n    # three", range=span(3, 0, 4, 0))
        assert texts(answer["result"]["edits"]) == [(3, "    # 2\r\n    # three")]
        assert (await instruct(client, "nothing here"))["result"] == {"edits": []}


async def test_an_accepted_hunk_leaves_the_others() -> None:
    async with raw_client(env=FOLLOWS) as client:
        await opened(client)
        first, last = (await instruct(client, "x z"))["result"]["edits"]
        client.change(URI, 2, (4, 11), (4, 12), "z")
        command = last["command"]
        execute = {"command": command["command"], "arguments": command["arguments"]}
        assert await client.ask("workspace/executeCommand", execute) is None
        client.notify("textDocument/didRejectInlineEdit", {"item": first})
        edits = (await instruct(client, "x q", version=2))["result"]["edits"]
        assert [edit["range"]["start"]["line"] for edit in edits] == [0]


async def test_bad_requests_are_refused_by_name() -> None:
    async with raw_client(env=FOLLOWS) as client:
        await opened(client)
        for change, named in (
            ({"instruction": "  "}, "instruction must say what to do"),
            ({"uri": "file:///other.py"}, "file:///other.py is not open"),
            ({"version": 7}, "has changed meanwhile"),
            ({"range": {"start": 3}}, "range must have a start and an end"),
            ({"instruction": "fail the engine is gone"}, "the engine is gone"),
        ):
            answer = await instruct(client, **({"instruction": "x z"} | change))
            assert named in answer["error"]["message"], answer


async def test_excluded_files_reach_no_model(tmp_path: Path) -> None:
    uri = (tmp_path / "keys.env").as_uri()
    async with raw_client(env=FOLLOWS) as client:
        await opened(client, uri)
        answer = await instruct(client, "x z", uri=uri)
        assert "keys.env is not shown to the model" in answer["error"]["message"]
        said = [{"role": "user", "content": "what is this?"}]
        asked = {"messages": said, "textDocument": {"uri": uri}}
        answer = await client.answer(client.request("fim/ask", asked))
        assert "keys.env is not shown to the model" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("env", "offered"),
    [
        (FOLLOWS, True),
        ({"SCRIPTED_ASSISTANT": "it is too small; choose a larger one"}, False),
        ({}, False),
    ],
)
async def test_the_action_is_offered_where_the_model_follows(env: Json, offered: bool) -> None:
    async with raw_client(env=env) as client:
        await opened(client)
        title = "Edit with instruction…"
        assert (title in await titles(client)) is offered
        assert title not in await titles(client, only=["source"])
        assert title not in await titles(client, end={"line": 0, "character": 0}), "no selection"
        answer = await instruct(client, "x z")
        if offered:
            assert answer["result"]["edits"]
        else:
            assert env.get("SCRIPTED_ASSISTANT", "a remote server") in answer["error"]["message"]


async def test_the_action_needs_a_client_that_asks() -> None:
    async with raw_client(env=FOLLOWS) as client:
        await client.initialize(workspace=CLIENT["workspace"])
        client.open(URI, CODE)
        for _ in range(20):
            found = await titles(client)
        assert "Revise the selection" in found
        assert "Edit with instruction…" not in found


async def test_an_answer_is_streamed() -> None:
    async with raw_client(env=FOLLOWS) as client:
        await opened(client)
        said = [{"role": "user", "content": "why?"}]
        asked = {"messages": said, "textDocument": {"uri": URI}, "token": 7}
        answer = await client.ask("fim/ask", asked)
        text = answer["text"]
        assert text.startswith("You said: File: ")
        assert "😀" in text
        assert text.endswith("why?")
        heard = [note for note in client.notifications if note["method"] == "fim/answer"]
        assert [note["params"]["token"] for note in heard] == [7, 7]
        assert heard[-1]["params"]["text"] == text
        part = await client.ask("fim/ask", {**asked, "range": span(2, 0, 3, 0)})
        assert "# one" in part["text"]
        assert "😀" not in part["text"], "only the selection"
        alone = await client.ask("fim/ask", {"messages": said})
        assert alone["text"] == "You said: why?"
        for wrong, named in (
            ({"messages": []}, "must be a question"),
            ({"messages": [{"role": "ghost", "content": ""}]}, "role 'ghost' is unknown"),
            ({"messages": "why"}, "messages must be a list"),
        ):
            refused = await client.answer(client.request("fim/ask", wrong))
            assert named in refused["error"]["message"]


async def test_a_text_from_elsewhere_becomes_hunks() -> None:
    async with raw_client(env=FOLLOWS) as client:
        await opened(client)
        asked: Json = {"textDocument": {"uri": URI, "version": 1}, "range": span(2, 0, 4, 0)}
        [edit] = (await client.ask("fim/propose", {**asked, "text": "    # one\n    # 2"}))["edits"]
        assert [hunk["text"] for hunk in edit["hunks"]] == ["2"]
        asked["range"] = span(4, 0, 4, 0)
        [edit] = (await client.ask("fim/propose", {**asked, "text": "\ng()"}))["edits"]
        assert texts([edit]) == [(5, "\r\ng()\r\n")]


async def test_a_remote_server_is_told_from_an_assistant() -> None:
    async with raw_client() as client:
        await opened(client)
        said = [{"role": "user", "content": "why?"}]
        for asked, named in (
            ({"messages": said}, "a remote server only completes"),
            (None, "messages must be a list"),
            ({"messages": said, "textDocument": {"uri": 3}}, "3 is not open"),
        ):
            refused = await client.answer(client.request("fim/ask", asked))
            assert named in refused["error"]["message"]
        refused = await client.answer(client.request("fim/propose", {"text": 1}))
        assert "text must be the new lines" in refused["error"]["message"]
        execute = {"command": "fim.instruct"}
        refused = await client.answer(client.request("workspace/executeCommand", execute))
        assert "instruction must say what to do" in refused["error"]["message"]
        assert "Traceback" not in client.stderr
