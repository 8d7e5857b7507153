"""Front-ends and engines as real processes: finding, starting and restarting the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from engine_home import EngineHome
from fim_model.requests import CompletionRequest
from raw_client import RawClient, inline_params, raw_client

from fim_server.backends.base import BackendError
from fim_server.bench.machine import memory_of
from fim_server.engine.client import EngineBackend

URI = "file:///add.py"
SLOW = {"mode": "ar", "maxTokens": 256, "alternatives": 10}
SLOW_REQUEST = CompletionRequest("x = ", "\n", mode="ar", max_tokens=256, alternatives=10)


def unseen(what: str, share: float) -> None: ...


@pytest.fixture
def at_home(home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> EngineHome:
    """Let this process look for engines in the test's own home, and stop them afterwards."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    return home


@pytest_asyncio.fixture
async def backend(at_home: EngineHome) -> AsyncIterator[EngineBackend]:
    """A backend that is not started; its engine is killed afterwards."""
    made = EngineBackend(str(at_home.model), threads=1)
    yield made
    await made.close()
    at_home.kill_engine()


async def test_an_engine_is_started_and_the_next_front_end_finds_it(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    seen: list[str] = []
    await backend.start(lambda what, share: seen.append(what))
    assert "Starting the engine" in seen
    first = at_home.engine_pid()
    completion = await backend.complete(CompletionRequest("x = ", "\n", max_tokens=4))
    assert completion.items
    assert completion.stats is not None
    assert completion.stats.tokens == 4

    second = EngineBackend(str(at_home.model))
    seen.clear()
    await second.start(lambda what, share: seen.append(what))
    assert "Starting the engine" not in seen
    assert at_home.engine_pid() == first
    await second.close()


async def test_front_ends_that_start_at_once_share_one_engine(at_home: EngineHome) -> None:
    program = (
        "import asyncio, sys\n"
        "from fim_server.engine.client import EngineBackend\n"
        "async def main():\n"
        "    backend = EngineBackend(sys.argv[1], threads=1)\n"
        "    await backend.start(lambda what, share: None)\n"
        "    health = await backend._health(backend._client)\n"
        "    print(health['pid'])\n"
        "asyncio.run(main())\n"
    )
    command = (sys.executable, "-c", program, str(at_home.model))
    front_ends = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    said = [(await front_end.communicate())[0] for front_end in front_ends]
    assert [front_end.returncode for front_end in front_ends] == [0, 0, 0]
    assert set(said) == {b"%d\n" % at_home.engine_pid()}
    at_home.kill_engine()


async def test_a_killed_engine_costs_one_answer(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    await backend.start(unseen)
    first = at_home.engine_pid()
    asking = asyncio.create_task(backend.complete(SLOW_REQUEST))
    await at_home.until_running()
    os.kill(first, signal.SIGKILL)
    with pytest.raises(BackendError, match="exited during the request"):
        await asking
    assert at_home.paths.socket.exists(), "a killed engine leaves its socket behind"
    completion = await backend.complete(CompletionRequest("x = ", "\n", max_tokens=4))
    assert completion.items
    assert at_home.engine_pid() != first


async def test_an_engine_that_exited_between_two_requests_is_replaced(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    await backend.start(unseen)
    first = at_home.engine_pid()
    at_home.kill_engine()
    assert (await backend.complete(CompletionRequest("x = ", "\n", max_tokens=4))).items
    assert at_home.engine_pid() != first


async def test_the_editor_sees_empty_items_and_then_service_again(at_home: EngineHome) -> None:
    command = (sys.executable, "-m", "fim_server", "lsp")
    async with raw_client(command) as editor:
        await editor.initialize(
            {"model": str(at_home.model), "threads": 1, **SLOW}, window={"workDoneProgress": False}
        )
        editor.open(URI, "def add(a, b):\n    return \n")
        await editor_ready(editor)
        first = at_home.engine_pid()
        asked = editor.request("textDocument/inlineCompletion", inline_params(URI, 1, 11, kind=1))
        await at_home.until_running()
        os.kill(first, signal.SIGKILL)
        assert (await editor.answer(asked))["result"] == {"items": []}
        editor.change(URI, 2, (1, 11), (1, 11), "a")
        assert len(await editor.complete(URI, 1, 12)) == 1
        assert at_home.engine_pid() != first
        assert not [sent for sent in editor.notifications if sent["method"] == "window/showMessage"]
        assert await editor.leave() == 0
    at_home.kill_engine()


async def editor_ready(editor: RawClient) -> None:
    """Repeat the request until the model is loaded."""
    async with asyncio.timeout(120):
        while not await editor.complete(URI, 0, 0):  # noqa: ASYNC110 - it can only be asked
            await asyncio.sleep(0.1)


async def test_the_front_end_stays_small(at_home: EngineHome) -> None:
    """The front-end's peak memory stays below 80 MiB with completions shown."""
    async with raw_client((sys.executable, "-m", "fim_server", "lsp")) as editor:
        await editor.initialize({"model": str(at_home.model), "threads": 1})
        editor.open(URI, "x = 1\n")
        await editor_ready(editor)
        assert memory_of(editor.process.pid).peak_rss_mib < 80
        await editor.leave()
    at_home.kill_engine()


def test_importing_the_front_end_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "tokenizers", "starlette", "uvicorn", "httpx2", "prometheus_client")
    program = (
        "import sys, fim_server.lsp.app, fim_server.engine.client\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


async def test_a_missing_model_is_named(at_home: EngineHome) -> None:
    backend = EngineBackend("no/such/model")
    with pytest.raises(BackendError, match=r"no/such/model.*no such"):
        await backend.start(unseen)
    await backend.close()


async def test_an_engine_that_cannot_start_is_reported_with_its_last_line(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    backend._command = [sys.executable, "-c", "import sys; sys.exit('no memory left')"]
    with pytest.raises(BackendError, match=r"exited with code 1: no memory left \(log: "):
        await backend.start(unseen)


async def test_an_engine_that_keeps_crashing_is_not_restarted_forever(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    backend._command = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(BackendError, match="was started 4 times within a minute"):
        await backend.start(unseen)


async def test_a_folder_open_to_others_is_refused(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    folder = at_home.paths.socket.parent
    folder.mkdir(mode=0o700)
    folder.chmod(0o755)
    with pytest.raises(BackendError, match=f"chmod 700 {folder}"):
        await backend.start(unseen)


async def test_a_runtime_folder_that_cannot_be_created_is_named(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    (at_home.folder / "run" / "fim-server").write_text("in the way")
    with pytest.raises(BackendError, match=r"run/fim-server: cannot be created .*--in-process"):
        await backend.start(unseen)


async def test_a_missing_runtime_folder_is_created(
    backend: EngineBackend, at_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime folder is missing after a reboot or in a new container."""
    missing = at_home.folder / "not" / "there"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(missing))
    made = EngineBackend(str(at_home.model), threads=1)
    assert not made.paths.socket.exists()
    await made.start(unseen)
    assert (await made.complete(CompletionRequest("x = ", "\n", max_tokens=2))).items
    folder = made.paths.socket.parent
    assert folder.is_relative_to(missing)
    assert {path.stat().st_mode & 0o777 for path in (folder, missing)} == {0o700}
    assert made.paths.socket.stat().st_mode & 0o777 == 0o600
    os.kill(await made.process(), signal.SIGKILL)
    await made.close()


async def test_a_file_in_place_of_the_socket_or_the_lock_is_named(
    backend: EngineBackend, at_home: EngineHome
) -> None:
    paths = at_home.paths
    paths.socket.mkdir(parents=True, mode=0o700)
    paths.socket.parent.chmod(0o700)
    with pytest.raises(
        BackendError, match=r"\.sock: cannot be replaced by the engine's socket .*; remove it"
    ):
        await backend.start(unseen)
    paths.socket.rmdir()
    paths.lock.unlink(missing_ok=True)
    paths.lock.mkdir()
    with pytest.raises(BackendError, match=r"\.lock: cannot be locked \(.*\); make it"):
        await backend.start(unseen)


def test_an_idle_engine_exits_and_removes_its_socket(home: EngineHome) -> None:
    engine = home.start("--idle-minutes", "0.01")
    assert engine.wait(60) == 0
    assert not home.paths.socket.exists()


def test_a_second_engine_exits_at_once(shared_home: EngineHome) -> None:
    second = shared_home.start()
    assert second.wait(60) == 3
    assert second.stderr is not None
    assert b"another engine already serves this model" in second.stderr.read()
    assert shared_home.engine_pid() == shared_home.processes[0].pid
