"""Edit suggestions of the real server process, for Copilot's clients and for our plugins."""

from __future__ import annotations

from typing import Any

import pytest
from raw_client import RawClient, raw_client

pytestmark = pytest.mark.timeout(120)

INLINE_EDIT = "textDocument/copilotInlineEdit"
URI = "file:///project/a.py"
CODE = 'old = 1  # "😀"\r\nx = 2\r\n\tprint("😀𝒳", old)\r\n'
Json = dict[str, Any]


def params(version: int | None = 2, line: int = 0) -> Json:
    document = {"uri": URI} | ({} if version is None else {"version": version})
    return {"textDocument": document, "position": {"line": line, "character": 0}}


async def renamed(client: RawClient, **capabilities: object) -> Json:
    """A server whose model is ready, after the user has renamed `old`."""
    result = await client.initialize(**capabilities)
    await client.notified("didChangeStatus", 2)
    client.open(URI, CODE)
    client.change(URI, 2, (0, 0), (0, 3), "new")
    return result


async def suggested(client: RawClient, version: int | None = 2) -> list[Json]:
    answer = await client.ask(INLINE_EDIT, params(version))
    assert set(answer) == {"edits"}
    return list(answer["edits"])


async def settled(client: RawClient) -> None:
    """Wait until everything sent before has been handled."""
    await client.complete(URI, 0, 0)


@pytest.mark.parametrize(("encoding", "start"), [("utf-8", 19), ("utf-16", 15)])
async def test_a_copilot_client_requests_shows_applies_and_accepts(
    encoding: str, start: int
) -> None:
    async with raw_client() as client:
        result = await renamed(client, general={"positionEncodings": [encoding]})
        [edit] = await suggested(client)
        assert edit["text"] == "new"
        assert edit["range"] == {
            "start": {"line": 2, "character": start},
            "end": {"line": 2, "character": start + 3},
        }
        assert edit["hunks"] == [{"text": edit["text"], "range": edit["range"]}]
        assert edit["textDocument"] == {"uri": URI, "version": 2}
        command = edit["command"]
        assert command["command"] in result["capabilities"]["executeCommandProvider"]["commands"]
        client.notify("textDocument/didShowInlineEdit", {"item": edit})
        client.change(URI, 3, (2, start), (2, start + 3), edit["text"])
        execute = {"command": command["command"], "arguments": command["arguments"]}
        assert await client.ask("workspace/executeCommand", execute) is None
        assert await suggested(client, 3) == [], "all is done"
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_edits_use_the_clients_position_encoding() -> None:
    """Renames the local name, not the attribute or the word in a string; keeps line ends."""
    code = (
        'import re\r\n\r\ndef f(old):\r\n\tx = "😀 old", old, a.old\r\n\r\n'
        "def g(old):  #keep\r\n\treturn old\r\n"
    )
    async with raw_client() as client:
        await client.initialize(general={"positionEncodings": ["utf-16"]})
        await client.notified("didChangeStatus", 2)
        client.open(URI, code)
        client.change(URI, 2, (2, 6), (2, 9), "new")
        [edit] = await suggested(client)
        assert edit["text"] == "new"
        assert edit["range"]["start"] == {"line": 3, "character": 15}
        client.change(URI, 3, (3, 15), (3, 18), "new")
        assert await suggested(client, 3) == [], "nothing is expected of g, which has its own"
        client.change(URI, 4, (6, 8), (6, 11), "json.x")
        [missing] = await suggested(client, 4)
        assert missing["text"] == "import json\r\n"
        assert missing["range"]["start"] == {"line": 0, "character": 0}
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_stale_unknown_and_malformed_requests_get_no_edits() -> None:
    async with raw_client() as client:
        await renamed(client)
        assert await suggested(client, 1) == []
        assert len(await suggested(client, None)) == 1
        client.change(URI, 3, (1, 0), (1, 0), "y")
        assert await suggested(client, 2) == []
        for broken in (None, {}, [], {"textDocument": {}}, {"textDocument": {"uri": 3}}):
            assert await client.ask(INLINE_EDIT, broken) == {"edits": []}
        unknown = {**params(), "textDocument": {"uri": "file:///never.py", "version": 1}}
        assert await client.ask(INLINE_EDIT, unknown) == {"edits": []}
        negative = {**params(3), "position": {"line": -5, "character": 0}}
        assert len((await client.ask(INLINE_EDIT, negative))["edits"]) == 1
        for method in ("didShowInlineEdit", "didRejectInlineEdit"):
            for broken in (None, {}, {"item": 3}, {"item": {"command": {"arguments": []}}}):
                client.notify(f"textDocument/{method}", broken)
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_a_rejected_edit_is_not_proposed_again() -> None:
    async with raw_client() as client:
        await renamed(client)
        [edit] = await suggested(client)
        client.notify("textDocument/didRejectInlineEdit", {"item": edit})
        assert await suggested(client) == []


async def test_no_edits_without_changes_or_while_the_model_loads() -> None:
    async with raw_client(env={"SCRIPTED_LOADS_FOR": "5"}) as client:
        await client.initialize()
        client.open(URI, CODE)
        client.change(URI, 2, (0, 0), (0, 3), "new")
        assert await suggested(client) == []
    async with raw_client() as client:
        await renamed(client)
        client.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        client.open(URI, CODE, version=2)
        assert await suggested(client) == []


async def test_edits_are_pushed_to_clients_that_declare_support() -> None:
    async with raw_client() as client:
        await renamed(client, experimental={"fim": {"nextEdit": True}})
        [told] = await client.notified("fim/nextEdit")
        assert [edit["text"] for edit in told["edits"]] == ["new"]
        assert told["edits"][0]["textDocument"] == {"uri": URI, "version": 2}


@pytest.mark.parametrize(
    ("capabilities", "options"),
    [({}, None), ({"experimental": {"fim": {"nextEdit": True}}}, {"nextEdits": False})],
)
async def test_edits_are_not_pushed_to_other_clients(
    capabilities: Json, options: Json | None
) -> None:
    async with raw_client() as client:
        await client.initialize(options, **capabilities)
        await client.notified("didChangeStatus", 2)
        client.open(URI, CODE)
        client.change(URI, 2, (0, 0), (0, 3), "new")
        assert len(await suggested(client)) == 1, "who asks is answered"
        assert await client.leave() == 0
        assert not [sent for sent in client.notifications if sent["method"] == "fim/nextEdit"]
