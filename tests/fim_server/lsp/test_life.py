"""The end of the server process: with its editor, by a signal, or with a closed pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from raw_client import SCRIPTED, RawClient, raw_client

from fim_server.lsp.life import is_running

URI = "file:///project/a.py"


@pytest.fixture
def editor() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for an editor."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@asynccontextmanager
async def started(
    process_id: object, state: Path, command: tuple[str, ...] = SCRIPTED
) -> AsyncIterator[RawClient]:
    """A server that has offered one suggestion, which it has counted."""
    async with raw_client(command, {"XDG_STATE_HOME": str(state)}) as client:
        params = {"processId": process_id, "rootUri": None, "capabilities": {}}
        await client.ask("initialize", params)
        client.notify("initialized", {})
        client.open(URI, "#say x")
        await client.complete(URI, 0, 6)
        yield client


def offered(state: Path) -> int:
    file = state / "fim-server" / "statistics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return sum(json.loads(line).get("offered", 0) for line in lines)


async def test_the_server_ends_with_its_editor_although_the_pipe_stays_open(
    editor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    async with started(editor.pid, tmp_path) as client:
        editor.kill()  # and not waited for: a zombie has ended, too
        assert await client.ended() == 1
        assert f"process {editor.pid} has ended, so the server exits" in client.stderr
    assert offered(tmp_path) == 1


async def test_the_server_ends_if_its_editor_is_gone_already(
    editor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    editor.kill()
    editor.wait()
    async with raw_client(env={"XDG_STATE_HOME": str(tmp_path)}) as client:
        client.request("initialize", {"processId": editor.pid, "rootUri": None, "capabilities": {}})
        assert await client.ended() == 1


@pytest.mark.parametrize(
    "process_id",
    [None, 0, -1, os.getpid(), 1, 2**30],
    ids=["none", "zero", "minus one", "this process", "init", "a large one"],
)
async def test_it_stays_without_an_editor_to_watch_or_while_that_runs(
    process_id: object, tmp_path: Path
) -> None:
    """2**30 stands for an editor outside the server's container."""
    async with started(process_id, tmp_path) as client:
        assert await client.complete(URI, 0, 6) == ["x"]
        assert await client.leave() == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
async def test_counts_survive_a_signal(name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    async with started(None, tmp_path) as client:
        client.process.send_signal(number)
        assert await client.ended() == -number
        assert "Traceback" not in client.stderr
    assert offered(tmp_path) == 1


async def test_counts_survive_a_closed_pipe_and_an_exit_without_shutdown(tmp_path: Path) -> None:
    async with started(None, tmp_path) as client:
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert await client.ended() == 1
    assert offered(tmp_path) == 1
    async with started(None, tmp_path) as client:
        client.notify("exit")
        assert await client.ended() == 1
    assert offered(tmp_path) == 2


def test_the_server_ends_when_nobody_reads_it_although_its_stdin_stays_open(
    tmp_path: Path,
) -> None:
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(SCRIPTED, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    def send(number: int, method: str, params: object) -> None:
        assert process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        process.stdin.write(f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        process.stdin.flush()

    try:
        send(1, "initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        assert process.stdout.readline().startswith(b"Content-Length")
        process.stdout.close()
        send(2, "no/such/method", {})
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


async def test_a_signal_does_not_wait_for_a_running_request(tmp_path: Path) -> None:
    async with started(None, tmp_path) as client:
        client.open(URI, "#wait")
        client.request("textDocument/inlineCompletion", {
            "textDocument": {"uri": URI},
            "position": {"line": 0, "character": 5},
            "context": {"triggerKind": 2},
        })  # fmt: skip
        client.process.send_signal(signal.SIGTERM)  # the request itself never ends
        assert await client.ended() == -signal.SIGTERM


@pytest.mark.parametrize("value", ["null", "undefined", ""])
async def test_no_client_process_id_is_none(value: str, tmp_path: Path) -> None:
    command = (sys.executable, "-P", "-m", "fim_server", "lsp", f"--clientProcessId={value}")
    async with started(None, tmp_path, command) as client:
        assert await client.leave() == 0


@pytest.mark.parametrize("joined", [True, False])
async def test_the_client_process_id_of_the_command_line(
    joined: bool, editor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    name, value = "--clientProcessId", str(editor.pid)
    arguments = (f"{name}={value}",) if joined else (name, value)
    command = (sys.executable, "-P", "-m", "fim_server", "lsp", "--stdio", *arguments)
    async with started(None, tmp_path, command) as client:
        editor.kill()
        assert await client.ended() == 1


def test_which_processes_run(editor: subprocess.Popen[bytes]) -> None:
    assert is_running(os.getpid())
    assert is_running(1)
    assert not is_running(2**40)
    editor.kill()
    editor.wait()
    assert not is_running(editor.pid)
