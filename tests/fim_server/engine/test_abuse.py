"""Slow, greedy, broken or foreign clients do not keep the engine from serving the others."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from engine_home import EngineHome
from starlette.requests import Request

from fim_server.backends.base import BackendError
from fim_server.engine import bodies
from fim_server.engine.bodies import MAX_BODY_BYTES, HttpError, read_json
from fim_server.engine.client import EngineBackend

HOLE = json.dumps({"prefix": "x = ", "suffix": "\n", "max_tokens": 2}).encode()


def raw(home: EngineHome, sent: bytes) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(home.paths.socket))
    connection.sendall(sent)
    return connection


def post(path: str, length: int, body: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: engine\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        length,
        body,
    )


@pytest.fixture(autouse=True)
def alive_afterwards(engine: httpx2.Client, shared_home: EngineHome) -> Iterator[None]:
    """Check that the same engine still answers after each test."""
    yield
    assert engine.post("/v1/fim", content=HOLE).json()["items"]
    assert engine.get("/health").json()["pid"] == shared_home.processes[0].pid


def test_a_huge_body_is_refused_before_it_is_read(shared_home: EngineHome) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 2**16 + 2):
            yield b" " * 2**16

    with shared_home.client() as client:
        answer = client.post("/v1/fim", content=chunks())
    assert answer.status_code == 413
    assert "more than" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/fim", "/v1/completions", "/infill"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'"text"', b'{"prefix": {"a": []}}'],
    ids=["empty", "cut", "no utf-8", "deep", "null", "text", "wrong types"],
)
def test_a_malformed_body_is_a_named_error(engine: httpx2.Client, path: str, body: bytes) -> None:
    answer = engine.post(path, content=body)
    if path != "/v1/fim" and body.startswith(b'{"prefix'):
        assert answer.status_code in (200, 400)
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]


def test_bytes_that_are_not_http_are_refused(shared_home: EngineHome) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"A" * 70_000):
        with raw(shared_home, nonsense) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_truncated_body_is_dropped(shared_home: EngineHome) -> None:
    for _ in range(20):
        raw(shared_home, post("/v1/fim", 1000, HOLE)).close()


def test_clients_that_never_finish_their_body_do_not_block_others(
    shared_home: EngineHome, engine: httpx2.Client
) -> None:
    slow = [raw(shared_home, post("/v1/fim", 1000, b"{")) for _ in range(50)]
    assert engine.post("/v1/fim", content=HOLE).status_code == 200
    for connection in slow:
        connection.close()


async def test_a_slow_body_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(60)
        raise AssertionError("the timeout did not apply")

    with pytest.raises(HttpError, match="did not arrive within") as error:
        await read_json(Request({"type": "http", "method": "POST", "headers": []}, receive))
    assert error.value.status == 408


def test_a_client_that_never_reads_its_stream(
    shared_home: EngineHome, engine: httpx2.Client
) -> None:
    body = json.dumps({"prompt": "x = ", "max_tokens": 64, "stream": True}).encode()
    deaf = [raw(shared_home, post("/v1/completions", len(body), body)) for _ in range(8)]
    assert engine.post("/v1/fim", content=HOLE).status_code == 200
    for connection in deaf:
        connection.close()


def test_another_user_cannot_connect(shared_home: EngineHome) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    socket_path = shared_home.paths.socket
    folders = (shared_home.folder, shared_home.folder / "run", socket_path.parent)
    program = (
        "import socket, sys\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except PermissionError: print('refused')"
    )

    def as_other_user() -> str:
        ids = ["--reuid=65534", "--regid=65534", "--clear-groups"]
        python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
        command = ["setpriv", *ids, python, "-c", program, str(socket_path)]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    try:
        for folder in folders[:-1]:
            folder.chmod(0o755)
        assert as_other_user() == "refused", "the folder is closed"
        socket_path.parent.chmod(0o755)
        assert as_other_user() == "refused", "and so is the socket itself"
    finally:
        for folder in folders:
            folder.chmod(0o700)


@pytest.fixture
def full_disk(home: EngineHome) -> Iterator[Path]:
    """The runtime folder is on a full file system."""
    runtime = home.folder / "run"
    command = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2,mode=0700", "none", str(runtime)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    (runtime / "fim-server").mkdir(mode=0o700)
    yield runtime
    subprocess.run(["umount", str(runtime)], check=True)


async def test_a_full_disk_is_reported(
    full_disk: Path, home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    backend = EngineBackend(str(home.model))
    with pytest.raises(BackendError, match="No space left on device"):
        await backend.start(lambda what, share: None)
    await backend.close()
