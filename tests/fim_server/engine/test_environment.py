"""Servers and engines in the environments of users: variables, folders, working directories.

Each test of a completion starts the real language server with the engine as its backend, as an
editor does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_home import EngineHome
from raw_client import raw_client

from fim_server.engine.paths import LONGEST_SOCKET_PATH, engine_paths, model_identity

COMMAND = (sys.executable, "-m", "fim_server", "lsp")
SHADOWS = (
    *("json", "token", "tokenize", "typing", "logging", "asyncio", "argparse", "random", "re"),
    *("torch", "httpx2", "pygls", "uvicorn"),
)


@pytest.fixture
def at_home(home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineHome]:
    """A runtime folder in this process's environment, which the test may change further; the engine
    that the test's servers find is ended."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, home.environment[name])
    yield home
    if health := health_of(home):
        os.kill(int(health["pid"]), signal.SIGKILL)


def health_of(home: EngineHome) -> dict[str, Any] | None:
    """The health report of the engine that serves the environment; None without an engine."""
    with socket.socket(socket.AF_UNIX) as connection:
        if connection.connect_ex(str(engine_paths(str(home.model)).socket)):
            return None
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        with connection.makefile("rb") as answer:
            return dict(json.loads(answer.read().partition(b"\r\n\r\n")[2]))


async def completes(
    home: EngineHome, cwd: Path | None = None, command: Sequence[str] = COMMAND
) -> str:
    """Complete once with a new server, and return its stderr."""
    options = {"model": str(home.model), "maxTokens": 3, "minConfidence": 0, "threads": 1}
    async with raw_client(command, cwd=cwd) as client:
        await client.initialize(options)
        states = await client.notified("didChangeStatus")
        while states[-1]["busy"]:
            states = await client.notified("didChangeStatus", len(states) + 1)
        assert states[-1]["kind"] == "Normal", (states[-1], client.stderr)
        client.open("file:///a.py", "def add(first, second):\n    return first + ")
        assert await client.complete("file:///a.py", 1, 19, kind=1)
        assert await client.leave() == 0
        return client.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"SSL_CERT_FILE": "/there/is/no/such/file"},
        {"SSL_CERT_DIR": "/there/is/no/such/folder"},
        {"HTTP_PROXY": "socks5://127.0.0.1:1", "ALL_PROXY": "nonsense with blanks"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
        {"HOME": "/there/is/no/such/home"},
        {"TMPDIR": "/there/is/no/such/folder"},
        {"PYTHONOPTIMIZE": "2"},
        {"XDG_CONFIG_HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"},
    ],
    ids=lambda variables: next(iter(variables)),
)
async def test_variables_that_do_not_concern_the_engine(
    variables: dict[str, str], at_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stderr = await completes(at_home)
    assert "Traceback" not in stderr, stderr


def in_the_way(state: Path) -> None:
    state.write_text("a file")


def fifos(state: Path) -> None:
    """FIFOs in the place of all files; opening one would wait for ever."""
    logs = state / "fim-server" / "log"
    logs.mkdir(parents=True)
    for file in (logs / "lsp.log", state / "fim-server" / "statistics.jsonl"):
        os.mkfifo(file)


def folders(state: Path) -> None:
    for name in ("log/lsp.log", "statistics.jsonl"):
        (state / "fim-server" / name).mkdir(parents=True)


@pytest.mark.parametrize("obstacle", [in_the_way, fifos, folders])
async def test_a_state_folder_that_cannot_be_written_means_no_log_only(
    obstacle: Callable[[Path], None], at_home: EngineHome
) -> None:
    obstacle(at_home.folder / "state")
    if obstacle is not in_the_way:
        log = engine_paths(str(at_home.model)).log
        log.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(log) if obstacle is fifos else log.mkdir()
    stderr = await completes(at_home)
    assert "cannot be written; the engine's log is" in stderr
    assert "Traceback" not in stderr
    assert engine_paths(str(at_home.model)).socket.with_suffix(".log").is_file()


async def test_a_disk_that_takes_nothing(at_home: EngineHome) -> None:
    """No temporary folder can be found then, and none is needed."""
    stderr = await completes(at_home, command=("sh", "-c", 'ulimit -f 0; "$@"', "sh", *COMMAND))
    assert "Traceback" not in stderr


async def test_a_runtime_folder_too_long_for_a_socket(
    at_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = at_home.folder / "run" / ("x" * LONGEST_SOCKET_PATH)
    long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setenv("TMPDIR", str(at_home.folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what the module remembers of TMPDIR
    socket_path = engine_paths(str(at_home.model)).socket
    assert socket_path.parent == at_home.folder / f"fim-server-{os.getuid()}"
    await completes(at_home)
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700


def test_a_runtime_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/null/run")
    assert not engine_paths(None).socket.is_relative_to("/dev/null")


@pytest.mark.parametrize("entry", ["", ".", "src", "{cwd}", "{cwd}/src/.."])
async def test_a_project_whose_files_are_named_like_modules(
    entry: str, at_home: EngineHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The working directory, PYTHONPATH's empty entry and its relative ones are the user's."""
    entry = entry.format(cwd=tmp_path)
    for folder in (tmp_path, tmp_path / "src"):
        folder.mkdir(exist_ok=True)
        for name in SHADOWS:
            (folder / f"{name}.py").write_text(f"raise SystemExit('ran the user\\'s {name}.py')\n")
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([entry, *filter(None, [before]), entry]))
    assert "ran the user" not in await completes(at_home, cwd=tmp_path)


async def test_a_working_directory_that_was_deleted(at_home: EngineHome, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, sys.argv[1:])"
    command = (sys.executable, "-c", code, *COMMAND)
    async with raw_client(command, cwd=gone) as client:
        await client.initialize({"model": str(at_home.model)})
        client.open("untitled:x", "def add(first, second):\n    return first + ")
        assert await client.complete("untitled:x", 1, 19) is not None
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
async def test_stderr_that_cannot_be_written(closed: str, at_home: EngineHome) -> None:
    command = ("sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND)
    async with raw_client(command) as client:
        await client.initialize({"model": str(at_home.model), "logLevel": "debug", "odd": 1})
        client.open("file:///a.py", "x = ")
        assert isinstance(await client.complete("file:///a.py", 0, 4), list)
        assert await client.leave() == 0


@pytest.mark.parametrize("model", ["~nosuchuser/x", "a\0b", "x" * 5000, "\ud800", "/dev/null"])
def test_the_identity_of_a_model_that_is_none(model: str) -> None:
    assert model_identity(model) == model
    assert engine_paths(model).socket.name.startswith("engine-")


def run(home: EngineHome, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fim_server", "engine", *arguments]
    env = {**home.environment, **variables}
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_an_engine_whose_model_cannot_be_loaded_says_why(home: EngineHome) -> None:
    done = run(home, "--model", "/there/is/no/such/model")
    assert done.returncode == 2
    assert "/there/is/no/such/model" in done.stderr
    assert " on " not in done.stderr, "no address is announced"
    assert "Traceback" not in done.stderr


def test_commands_of_a_running_engine_need_no_certificates(home: EngineHome) -> None:
    home.start()
    home.wait_until_ready()
    broken = {"SSL_CERT_FILE": "/there/is/no/such/file", "ALL_PROXY": "socks5://127.0.0.1:1"}
    with home.opened_port("the-key") as url:
        shown = run(home, "--model", str(home.model), "--print-config", "curl", **broken)
        assert (shown.returncode, "Traceback" in shown.stderr) == (0, False), shown.stderr
        assert url in shown.stdout
        taken = run(home, "--model", str(home.model), "--tcp", url.rpartition(":")[2], **broken)
        assert (taken.returncode, "Traceback" in taken.stderr) == (2, False), taken.stderr
        assert "cannot be used" in taken.stderr


def test_the_health_of_a_ready_engine(home: EngineHome) -> None:
    home.start()
    health = home.wait_until_ready()
    assert (health["status"], health["doing"], health["share"]) == ("ok", "", 1.0)
    engine = home.processes[-1]
    engine.terminate()
    assert engine.stderr is not None
    said = engine.stderr.read().decode()
    assert f"serving the model {home.model.name} on {home.paths.socket}" in said
