"""Code actions of the real server process: offered at once, computed on resolve."""

from __future__ import annotations

from typing import Any

import pytest
from raw_client import RawClient, raw_client

pytestmark = pytest.mark.timeout(120)

URI, OTHER = "file:///project/a.py", "file:///project/b.py"
CODE = "def area(width):\r\n    return width\r\n\r\n\r\nprint(area(1))\r\n"
CAPABLE = {
    "workspace": {
        "workspaceEdit": {"documentChanges": True, "changeAnnotationSupport": {}},
    }
}
Json = dict[str, Any]


async def renamed(client: RawClient, **capabilities: Any) -> Json:
    """The user has renamed `area`, which another open document uses too."""
    result = await client.initialize(**(capabilities or CAPABLE))
    await client.notified("didChangeStatus", 2)
    client.open(OTHER, "from a import area\n")
    client.open(URI, CODE)
    client.change(URI, 2, (0, 4), (0, 8), "surface")
    return result


def action_params(first: int, last: int, trigger: int = 1, **context: Any) -> Json:
    span = {
        "start": {"line": first, "character": 0},
        "end": {"line": last, "character": 0},
    }
    context = {"diagnostics": [], "triggerKind": trigger, **context}
    return {"textDocument": {"uri": URI}, "range": span, "context": context}


async def actions(client: RawClient, first: int, last: int, **more: Any) -> dict[str, Json]:
    found = await client.ask("textDocument/codeAction", action_params(first, last, **more))
    return {action["title"].split()[0] + action["title"].split()[-1]: action for action in found}


async def changes(client: RawClient, action: Json) -> list[Json]:
    assert "edit" not in action, "nothing is computed before it is chosen"
    resolved = await client.ask("codeAction/resolve", action)
    return list(resolved["edit"]["documentChanges"])


async def test_the_offered_actions() -> None:
    async with raw_client() as client:
        result = await renamed(client)
        provider = result["capabilities"]["codeActionProvider"]
        assert provider == {"codeActionKinds": ["refactor.rewrite"], "resolveProvider": True}
        assert list(await actions(client, 3, 3)) == [
            "Completehere",
            "Applyedit",
            "Applyoccurrences",
        ]
        assert list(await actions(client, 1, 3)) == [
            "Reviseselection",
            "Applyedit",
            "Applyoccurrences",
        ]
        assert await actions(client, 3, 3, trigger=2) == {}, "no light bulb without a reason"
        assert await actions(client, 1, 3, only=["quickfix"]) == {}
        assert len(await actions(client, 1, 3, only=["refactor"])) == 3


async def test_the_next_edit_and_all_of_them() -> None:
    async with raw_client() as client:
        await renamed(client)
        found = await actions(client, 3, 3)
        [change] = await changes(client, found["Applyedit"])
        assert change["textDocument"] == {"uri": URI, "version": 2}
        assert [edit["newText"] for edit in change["edits"]] == ["surface"]
        own, other = await changes(client, found["Applyoccurrences"])
        assert own == change
        assert other["textDocument"] == {"uri": OTHER, "version": 1}
        assert other["edits"][0]["annotationId"] == "fim.elsewhere", "it is shown before"


async def test_other_documents_are_not_edited_unseen() -> None:
    async with raw_client() as client:
        await renamed(client, workspace={"workspaceEdit": {"documentChanges": True}})
        found = await actions(client, 3, 3)
        assert [
            change["textDocument"]["uri"]
            for change in await changes(client, found["Applyoccurrences"])
        ] == [URI]
    async with raw_client() as client:
        await renamed(client, workspace={})
        assert await actions(client, 3, 3) == {}, "a client that cannot check versions"


async def test_revising_a_selection_and_completing() -> None:
    async with raw_client() as client:
        await renamed(client)
        found = await actions(client, 4, 5)
        [change] = await changes(client, found["Reviseselection"])
        assert change["edits"][0]["range"]["start"] == {"line": 4, "character": 6}
        client.change(URI, 3, (2, 0), (2, 0), "#say x = 1\\n    y")
        place = {"line": 2, "character": 17}
        params = {**action_params(2, 2), "range": {"start": place, "end": place}}
        [action, *_] = await client.ask("textDocument/codeAction", params)
        [change] = await changes(client, action)
        [edit] = change["edits"]
        assert edit["range"] == {"start": place, "end": place}
        assert edit["newText"].startswith("x = 1")


async def test_a_stale_action_is_refused() -> None:
    async with raw_client() as client:
        await renamed(client)
        found = await actions(client, 4, 5)
        client.change(URI, 3, (2, 0), (2, 0), "x")
        for action in found.values():
            answer = await client.answer(client.request("codeAction/resolve", action))
            assert answer["error"]["code"] == -32801
        foreign = {"title": "another server's", "data": {"fim": 3}}
        assert await client.ask("codeAction/resolve", foreign) == foreign
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_a_diagnostic_is_a_reason_to_look() -> None:
    async with raw_client() as client:
        await client.initialize(**CAPABLE)
        await client.notified("didChangeStatus", 2)
        client.open(URI, "limit = 1\n\n\n\n\n\n\nuse(lim)  # keep\n")
        client.change(URI, 2, (0, 0), (0, 5), "lim")
        span = {"start": {"line": 7, "character": 4}, "end": {"line": 7, "character": 7}}
        diagnostic = {"range": span, "message": "lim is not a function"}
        await actions(client, 7, 7, diagnostics=[diagnostic])
        assert await client.leave() == 0
