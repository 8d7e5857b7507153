"""What goes wrong is told in the editor and in the log, with the way out."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from engine_home import TcpEngine
from raw_client import INLINE, PATIENCE_S, RawClient, inline_params, raw_client

from fim_server.engine.port_guard import PortGuard
from fim_server.engine.state import Refusals
from fim_server.log import SafeFormatter

COMMAND = (sys.executable, "-m", "fim_server", "lsp")
URI = "file:///a.py"


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """The address of a server that answers 401 to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def log_in(state: Path) -> str:
    [log] = state.rglob("lsp.log")
    return log.read_text()


async def told(client: RawClient) -> str:
    """All that the editor was told: log messages, messages and states."""
    return "\n".join(str(message.get("params")) for message in client.notifications)


@pytest.mark.parametrize("model", ["m", None])
async def test_a_refused_key_is_told_with_the_way_out(model: str | None, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    async with refusing() as url, raw_client(COMMAND, env) as client:
        await client.initialize({"backend": "openai", "remoteUrl": url, "remoteModel": model})
        client.open(URI, "x = ")
        async with asyncio.timeout(PATIENCE_S):
            while "refuses the key: set FIM_SERVER_API_KEY" not in await told(client):
                await client.complete(URI, 0, 4)
                await asyncio.sleep(0.05)
        assert await client.leave() == 0
    assert "refuses the key: set FIM_SERVER_API_KEY" in log_in(tmp_path)


async def test_a_bad_setting_is_told_and_the_server_starts() -> None:
    options = {"backend": "openai", "remoteUrl": "http://[::1/v1", "maxTokens": "many"}
    async with raw_client(COMMAND) as client:
        result = await client.initialize(options)
        assert result["capabilities"]["inlineCompletionProvider"] == {}
        client.open(URI, "x = ")
        assert await client.complete(URI, 0, 4) == []
        await client.notified("window/showMessage")
        said = await told(client)
        assert "setting remoteUrl" in said
        assert "setting maxTokens: 'many' is not used" in said
        assert "the backend 'openai' needs the setting 'remoteUrl'" in said
        assert await client.leave() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"model": "~nosuchuser/x"},
        {"model": "/there/is/no/such/model"},
        {"model": "x" * 4000},
        {"backend": "llama_cpp", "remoteUrl": "http://a..b/v1"},
        {"backend": "in_process", "model": "/dev/null"},
    ],
    ids=str,
)
async def test_a_model_that_cannot_be_used_is_told(options: dict[str, Any]) -> None:
    async with raw_client(COMMAND) as client:
        await client.initialize(options)
        [message] = await client.notified("window/showMessage")
        assert message["message"].startswith("fim-server: ")
        assert "\n" not in message["message"]
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


def test_requests_without_the_key_are_told_in_the_answer(tcp: TcpEngine) -> None:
    refused = httpx2.post(f"{tcp.url}/v1/completions", json={})
    assert refused.status_code == 401
    message = refused.json()["error"]["message"]
    assert "the API key is missing" in message
    assert "`fim-server engine --print-config CLIENT`" in message
    wrong = httpx2.get(f"{tcp.url}/health", headers={"Authorization": "Bearer x"})
    assert "the API key is wrong" in wrong.json()["error"]["message"]


async def test_refusals_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def app(*_arguments: object) -> None:
        raise AssertionError("no request passes")

    async def ignore(_message: object) -> None: ...

    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer guessed")]
    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": headers}
    guard = PortGuard(app, "secret", refusals := Refusals())
    for _ in range(20):
        await guard(scope, None, ignore)  # type: ignore[arg-type]
    [line] = caplog.messages
    assert line.startswith("1 requests refused: the API key is wrong: ")
    assert "secret" not in line
    assert "guessed" not in line
    assert refusals.count == 20


def test_records_of_libraries_have_no_placeholders() -> None:
    formatter = SafeFormatter("%(message)s")
    for template, shown in (
        ("Failed to handle %r, unknown %r", "Failed to handle …, unknown …"),
        ('Cancel notification for message id "%s"', "Cancel notification for message id …"),
        ("%d of %5.1f%%", "… of …%"),
    ):
        record = logging.makeLogRecord({"name": "pygls", "msg": template, "args": ("code", "x")})
        assert formatter.format(record) == shown


async def test_a_shutdown_with_open_requests_leaves_no_traceback(tmp_path: Path) -> None:
    async with raw_client(env={"XDG_STATE_HOME": str(tmp_path)}) as client:
        await client.initialize()
        client.open(URI, "#wait")
        number = client.request(INLINE, inline_params(URI, 0, 5))
        client.request("no/such/method", {"text": "def secret"})
        await client.answer(client.request("workspace/executeCommand", {"command": "none"}))
        client.open(URI, "#crash def secret")
        await client.complete(URI, 0, 17)
        assert await client.leave() == 0
        assert "error" in client.answers[number] or client.answers[number]["result"]["items"] == []
    text = log_in(tmp_path)
    for odd in ("Traceback", "%r", "%s", "CancelledError", "secret"):
        assert odd not in text, text


@pytest.mark.parametrize("how", ["shutdown", "exit"])
async def test_leaving_while_the_model_loads_leaves_no_traceback(how: str, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path), "SCRIPTED_LOADS_FOR": "30"}
    async with raw_client(env=env) as client:
        await client.initialize({"logLevel": "debug"}, window={"workDoneProgress": True})
        client.open(URI, "#say x")
        await client.complete(URI, 0, 6)
        client.notify("workspace/didChangeConfiguration", {"settings": {"fim": {"threads": 2}}})
        await client.complete(URI, 0, 6)
        if how == "shutdown":
            assert await client.leave() == 0
        else:
            client.notify("exit")
            assert await client.ended() == 1
    for text in (log_in(tmp_path), client.stderr):
        for odd in ("Traceback", "CancelledError", "Exception in callback", "never retrieved"):
            assert odd not in text, text
