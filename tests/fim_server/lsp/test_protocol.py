"""The server process at the protocol level, with a scripted backend instead of a model.

Each test is a client session that does one thing right or wrong. Every byte on stdout must be LSP
(checked by `raw_client`), although the scripted backend prints noise.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from raw_client import INLINE, RawClient, inline_params, raw_client

URI = "file:///project/a.py"
EMPTY = {"items": []}


async def ready(client: RawClient, text: str = "", **options: object) -> RawClient:
    """An initialized client with an open document."""
    await client.initialize(options or None)
    client.open(URI, text)
    return client


def test_importing_the_server_imports_no_torch() -> None:
    code = "import fim_server.lsp.app, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_advertised_capabilities() -> None:
    async with raw_client() as client:
        notebooks = {"synchronization": {}}
        result = await client.initialize(notebookDocument=notebooks)
        capabilities = result["capabilities"]
        assert capabilities["inlineCompletionProvider"] == {}
        assert capabilities["textDocumentSync"]["change"] == 2, "incremental"
        assert capabilities["textDocumentSync"]["openClose"] is True
        commands = capabilities["executeCommandProvider"]["commands"]
        assert sorted(name.rpartition(".")[0] for name in commands) == [
            "fim",
            "fim-server.accept", "fim-server.acceptEdit"
        ]  # fmt: skip
        assert capabilities["notebookDocumentSync"]["notebookSelector"] == [{"notebook": "*"}]
        assert capabilities["workspace"]["workspaceFolders"]["changeNotifications"] is True
        assert await client.leave() == 0


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, "utf-16"),
        (["utf-16"], "utf-16"),
        (["utf-8", "utf-16", "utf-32"], "utf-8"),
        (["utf-32", "utf-8"], "utf-32"),
        (["ebcdic", "utf-8"], "utf-8"),
        (["ebcdic"], "utf-16"),
    ],
)
async def test_the_clients_first_known_encoding_is_used(
    offered: list[str] | None, chosen: str
) -> None:
    async with raw_client() as client:
        general = {"positionEncodings": offered} if offered else {}
        result = await client.initialize(general=general)
        assert result["capabilities"]["positionEncoding"] == chosen
        client.open(URI, "😀é #say x")
        units = {"utf-8": 13, "utf-16": 10, "utf-32": 9}[chosen]
        answer = await client.ask(INLINE, inline_params(URI, 0, 99))
        assert answer["items"][0]["range"]["start"] == {"line": 0, "character": units}
        client.change(URI, 2, (0, units - 1), (0, units), "yes")
        assert await client.complete(URI, 0, 99) == ["yes"]


async def test_only_lsp_line_ends_move_lines() -> None:
    async with raw_client() as client:
        await client.initialize()
        for odd in ("\f", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"):
            client.open(URI, f"a{odd}b\n#say one\nend")
            client.change(URI, 2, (1, 5), (1, 8), "two")
            assert await client.complete(URI, 1, 8) == ["two"], repr(odd)


async def test_positions_past_an_end_are_clamped() -> None:
    async with raw_client() as client:
        await ready(client, "#say one\n")
        client.change(URI, 2, (0, 8), (0, 400), "!")
        assert await client.complete(URI, 0, 400) == ["one!"]
        client.change(URI, 3, (1, 0), (1, 0), "#say two")
        assert await client.complete(URI, 1, 8) == ["two"]
        client.change(URI, 4, (50, 3), (51, 0), " three")
        assert await client.complete(URI, 1, 99) == ["two three"]


async def test_full_sync_and_closing() -> None:
    async with raw_client() as client:
        await ready(client, "old")
        change = {
            "textDocument": {"uri": URI, "version": 2},
            "contentChanges": [{"text": "#say n"}],
        }
        client.notify("textDocument/didChange", change)
        assert await client.complete(URI, 0, 6) == ["n"]
        client.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        assert await client.complete(URI, 0, 6) == []


async def test_items_are_plain_text_with_an_empty_range_at_the_cursor() -> None:
    async with raw_client() as client:
        await ready(client, "#say a:\\n  b\\n\r\n")
        cursor = {"line": 0, "character": 14}
        [item] = (await client.ask(INLINE, inline_params(URI, 0, 14)))["items"]
        assert item.pop("command")["title"] == "Accept"
        assert item == {"insertText": "a:\r\n  b", "range": {"start": cursor, "end": cursor}}


async def test_invoked_gives_as_many_alternatives_as_set() -> None:
    async with raw_client() as client:
        await ready(client, "#say x", alternatives=2)
        assert await client.complete(URI, 0, 6, kind=2) == ["x"]
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2"]


MALFORMED: list[Any] = [
    None,
    {},
    [],
    "text",
    {"textDocument": {"uri": URI}},
    {**inline_params(URI, 0, 0), "position": {"line": -1, "character": 0}},
    {**inline_params(URI, 0, 0), "position": {"line": "x", "character": 0}},
    {**inline_params(URI, 0, 0), "textDocument": None},
    {**inline_params(URI, 0, 0), "textDocument": {"url": URI}},
]


async def test_a_malformed_inline_completion_is_answered_empty() -> None:
    async with raw_client() as client:
        await ready(client, "#say x", logLevel="debug")
        for params in MALFORMED:
            assert await client.ask(INLINE, params) == EMPTY, params
        assert await client.complete(URI, 0, 6) == ["x"]
        assert await client.leave() == 0
        assert client.stderr.count("nothing (bad_params)") == len(MALFORMED)


BAD_REQUESTS: list[tuple[str, Any, int]] = [
    ("no/such/method", {"a": 1}, -32601),
    ("textDocument/hover", inline_params(URI, 0, 0), -32601),
    ("workspace/executeCommand", {"command": "rm"}, -32602),
    ("workspace/executeCommand", {"command": ["x"], "arguments": 1}, -32602),
    ("workspace/executeCommand", None, -32602),
    ("initialize", {"processId": None, "capabilities": {}}, -32600),
]


async def test_other_invalid_requests_are_answered_with_an_error() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        for method, params, code in BAD_REQUESTS:
            answer = await client.answer(client.request(method, params))
            assert answer["error"]["code"] == code, (method, params)
            assert "\n" not in answer["error"]["message"]
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_a_malformed_initialize_is_answered_and_can_be_repeated() -> None:
    async with raw_client() as client:
        answer = await client.answer(client.request("initialize", {"processId": None}))
        assert answer["error"]["code"] == -32602
        assert "capabilities" in answer["error"]["message"]
        await ready(client, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_requests_too_early_and_too_late_are_answered() -> None:
    async with raw_client() as client:
        early = await client.answer(client.request(INLINE, inline_params(URI, 0, 0)))
        assert early["error"]["code"] == -32002
        client.open(URI, "lost: nothing counts before initialize")
        await client.initialize()
        assert await client.complete(URI, 0, 0) == []
        assert await client.ask("shutdown") is None
        late = await client.answer(client.request(INLINE, inline_params(URI, 0, 0)))
        assert late["error"]["code"] == -32600
        client.notify("exit")
        assert await client.ended() == 0


async def test_a_body_that_is_not_a_message_does_not_stop_the_server() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        deep = b"[" * 100_000
        for body in (b"{", b'"text"', b"[]", b"7", b"null", b"\xff\xfe", b"{}", deep):
            client.send_bodies(body)
            assert await client.complete(URI, 0, 6) == ["x"], body[:10]
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_a_body_that_is_not_json_is_answered_without_an_id() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        client.send_bodies(b'{"jsonrpc": "2.0", "id": 1, "method": ')
        assert (await client.answer(None))["error"]["code"] == -32700


async def test_a_document_that_lost_a_change_is_not_completed() -> None:
    """The document is out of sync, so there are no suggestions until it is reopened."""
    async with raw_client() as client:
        await ready(client, "#say x")
        for params in (
            {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [{"range": 1}]},
            {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [{"text": None}]},
            {"textDocument": {"uri": URI, "version": 2}},
        ):
            client.notify("textDocument/didChange", params)
            assert await client.complete(URI, 0, 6) == []
            client.open(URI, "#say y")
            assert await client.complete(URI, 0, 6) == ["y"]


async def test_unexpected_notifications_are_ignored() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        client.notify("no/such/notification", {"a": [1]})
        client.notify("textDocument/didChange", None)
        client.notify("textDocument/didOpen", {"textDocument": {"uri": ["x"]}})
        client.notify("textDocument/didClose", {"textDocument": {"uri": "file:///never/opened"}})
        client.notify("$/cancelRequest", {"id": 12345})
        client.notify("$/cancelRequest", {})
        client.notify("workspace/didChangeConfiguration", {"settings": {}})
        client.change("file:///never/opened", 1, (0, 0), (0, 0), "x")
        client.send({"id": 99, "result": "an answer to no request"})
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_a_cancelled_request_is_answered_empty_and_stops() -> None:
    async with raw_client() as client:
        await ready(client, "#wait", logLevel="debug")
        number = client.request(INLINE, inline_params(URI, 0, 5))
        client.notify("$/cancelRequest", {"id": number})
        assert (await client.answer(number))["result"] == EMPTY
        assert await client.leave() == 0
        assert "nothing (cancelled)" in client.stderr


async def test_a_request_cancelled_in_the_queue_is_answered_empty() -> None:
    async with raw_client() as client:
        await ready(client, "#wait")
        request = {"id": "q", "method": INLINE, "params": inline_params(URI, 0, 5)}
        client.send(request, {"method": "$/cancelRequest", "params": {"id": "q"}})
        assert (await client.answer("q"))["result"] == EMPTY


async def test_the_newest_request_of_a_document_wins() -> None:
    """Neovim does not cancel requests, so the server must supersede them."""
    async with raw_client() as client:
        await ready(client, "#wait\n#say x", logLevel="debug")
        older = [client.request(INLINE, inline_params(URI, 0, 5)) for _ in range(20)]
        assert await client.complete(URI, 1, 6) == ["x"]
        for number in older:
            assert (await client.answer(number))["result"] == EMPTY
        assert await client.leave() == 0
        assert client.stderr.count("nothing (superseded)") == 20


async def test_a_change_empties_the_answer_to_the_text_before() -> None:
    async with raw_client() as client:
        await ready(client, "#wait", logLevel="debug")
        number = client.request(INLINE, inline_params(URI, 0, 5))
        client.change(URI, 2, (0, 0), (0, 5), "#say x")
        assert (await client.answer(number))["result"] == EMPTY
        assert await client.complete(URI, 0, 6) == ["x"]
        assert await client.leave() == 0
        assert "nothing (stale)" in client.stderr


async def test_a_request_that_names_another_version_is_answered_empty() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        client.change(URI, 5, (0, 6), (0, 6), "")
        params = inline_params(URI, 0, 6)
        for version, items in ((1, 0), (5, 1), (6, 0)):
            params["textDocument"] = {"uri": URI, "version": version}
            assert len((await client.ask(INLINE, params))["items"]) == items


async def test_many_pending_requests_do_not_block_input() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        for number in range(100):
            uri = f"file:///project/{number}.py"
            client.open(uri, "#wait")
            client.request(INLINE, inline_params(uri, 0, 5))
        assert await client.complete(URI, 0, 6) == ["x"]
        assert await client.leave() == 0


async def test_errors_of_the_backend_are_answered_empty() -> None:
    async with raw_client() as client:
        await ready(client, "#fail the disk is full\n#crash my_secret\n#say x")
        assert await client.complete(URI, 0, 22) == []
        assert await client.complete(URI, 1, 16) == []
        assert await client.complete(URI, 2, 6) == ["x"]
        assert await client.leave() == 0
        assert "the disk is full" in client.stderr
        assert "my_secret" not in client.stderr


async def test_no_code_is_ever_logged() -> None:
    """At any level and in any kind of record, including errors."""
    async with raw_client() as client:
        await ready(client, "#say my_secret\n#crash my_secret", logLevel="debug")
        assert await client.complete(URI, 0, 14) == ["my_secret"]
        assert await client.complete(URI, 1, 16) == []
        change = {"textDocument": {"uri": URI, "version": "my_secret"}, "contentChanges": []}
        client.notify("textDocument/didChange", change)
        client.notify("textDocument/didChange", {"my_secret": "my_secret"})
        client.notify("my/secret", {"my_secret": "my_secret"})
        params = {**inline_params(URI, 0, 0), "position": "my_secret"}
        assert await client.ask(INLINE, params) == EMPTY
        await client.answer(client.request("workspace/executeCommand", {"command": ["my_secret"]}))
        assert await client.leave() == 0
        assert "inline completion: 1 items" in client.stderr
        assert "my_secret" not in client.stderr


async def test_the_log_is_quiet_by_default() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]
        assert await client.leave() == 0
        assert client.stderr.splitlines() == [
            "noise that a library prints",
            "noise that C code prints",
        ]


async def test_invalid_settings_are_reported_and_the_server_works() -> None:
    async with raw_client() as client:
        await ready(client, "#say x", mode="fast", maxTokenz=3, alternatives=2)
        messages = await client.notified("window/logMessage", 2)
        assert messages[0]["message"].startswith(
            "setting mode: 'fast' is not used: expected one of ar, "
        )
        assert messages[1]["message"].startswith("setting 'maxTokenz' is unknown; the settings are")
        assert await client.complete(URI, 0, 6, kind=1) == ["x", "x 2"]


@pytest.mark.parametrize("options", [["mode"], {"mode": {"a": 1}}])
async def test_settings_of_any_shape_do_not_stop_the_server(options: object) -> None:
    async with raw_client() as client:
        await client.initialize(options)
        [message] = await client.notified("window/logMessage")
        assert "is not used" in message["message"]
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_while_the_model_loads_answers_are_empty_and_exiting_works() -> None:
    async with raw_client(env={"SCRIPTED_LOADS_FOR": "9999"}) as client:
        await ready(client, "#say x", logLevel="debug")
        assert await client.complete(URI, 0, 6) == []
        assert await client.leave() == 0
        assert "nothing (loading)" in client.stderr


async def test_a_model_that_cannot_be_loaded_is_reported_once() -> None:
    async with raw_client(env={"SCRIPTED_LOAD_PROBLEM": "x: no such folder"}) as client:
        await ready(client, "#say x")
        [shown] = await client.notified("window/showMessage")
        [logged] = await client.notified("window/logMessage")
        assert shown == {"type": 1, "message": "fim-server: x: no such folder"}
        assert logged == {"type": 1, "message": "x: no such folder"}
        assert await client.complete(URI, 0, 6) == []
        assert await client.leave() == 0


async def test_loading_progress_is_sent_to_clients_that_support_it() -> None:
    async with raw_client(env={"SCRIPTED_LOADS_FOR": "0.5"}) as client:
        await client.initialize(window={"workDoneProgress": True})
        values = [progress["value"] for progress in await client.notified("$/progress", 3)]
        assert [value["kind"] for value in values] == ["begin", "report", "end"]
        assert values[0]["title"] == "fim-server"
        assert values[1] == {"kind": "report", "message": "Loading", "percentage": 50}
        assert values[2]["message"] == "Ready"
        client.open(URI, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]


async def test_a_failed_load_ends_its_progress() -> None:
    env = {"SCRIPTED_LOADS_FOR": "0.2", "SCRIPTED_LOAD_PROBLEM": "x: no such folder"}
    async with raw_client(env=env) as client:
        await client.initialize(window={"workDoneProgress": True})
        # How many reports come between begin and end depends on the time that loading takes.
        end = await client.progress_end()
        assert end == {"kind": "end", "message": "No model: see the log"}


async def test_no_progress_for_a_client_that_cannot_show_it() -> None:
    async with raw_client() as client:
        await ready(client, "#say x")
        assert await client.complete(URI, 0, 6) == ["x"]
        assert [sent for sent in client.notifications if "rogress" in sent["method"]] == []


async def test_exit_without_shutdown_has_exit_code_1() -> None:
    async with raw_client() as client:
        await ready(client, "#wait")
        client.request(INLINE, inline_params(URI, 0, 5))
        client.notify("exit")
        assert await client.ended() == 1
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize(("shut_down", "code"), [(False, 1), (True, 0)])
async def test_the_process_exits_when_stdin_closes(shut_down: bool, code: int) -> None:
    async with raw_client() as client:
        await ready(client, "#wait")
        client.request(INLINE, inline_params(URI, 0, 5))
        if shut_down:
            assert await client.ask("shutdown") is None
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert await client.ended() == code
        assert "Traceback" not in client.stderr


async def test_two_servers_run_side_by_side() -> None:
    async with raw_client() as one, raw_client() as two:
        await asyncio.gather(ready(one, "#say one"), ready(two, "#say two"))
        assert await one.complete(URI, 0, 8) == ["one"]
        assert await two.complete(URI, 0, 8) == ["two"]
