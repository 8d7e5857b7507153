"""A separate runtime folder with real engine processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from fim_server.engine.paths import EnginePaths, engine_paths

KEY = 'sk-it\'s-"quoted"-\\'
"""A key with the characters that a client's settings must quote."""


@dataclass
class EngineHome:
    """A separate runtime folder, and the engine processes started in it."""

    folder: Path
    model: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def paths(self) -> EnginePaths:
        before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME")}
        os.environ.update({name: self.environment[name] for name in before})
        try:
            paths = engine_paths(str(self.model))
            # If platformdirs distrusts the folder, it uses the user's real one.
            assert paths.socket.is_relative_to(self.folder), paths.socket
            return paths
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fim_server", "engine", "--model", str(self.model)]
        process = subprocess.Popen(
            [*command, "--threads", "1", *arguments], env=self.environment, stderr=subprocess.PIPE
        )
        self.processes.append(process)
        return process

    def client(self) -> httpx2.Client:
        transport = httpx2.HTTPTransport(uds=str(self.paths.socket))
        return httpx2.Client(transport=transport, base_url="http://engine", timeout=60)

    def wait_until_ready(self) -> dict[str, object]:
        """Wait until the model is loaded; return the answer of /health."""

        def check() -> None:
            engine = self.processes[-1]
            if engine.poll() is not None:
                assert engine.stderr is not None
                raise AssertionError(f"the engine ended: {engine.stderr.read().decode()}")

        with self.client() as client:
            return until_ready(client, check)

    @contextmanager
    def opened_port(self, key: str) -> Iterator[str]:
        """The address of another port of the running engine, which is open inside."""
        asked = {"port": 0, "key": key}
        with (
            self.client() as client,
            client.stream("POST", "/v1/listen", json=asked, timeout=None) as answer,
        ):
            lines = answer.iter_lines()  # kept: without it the response is closed
            yield f"http://127.0.0.1:{json.loads(next(lines))['port']}"

    def engine_pid(self) -> int:
        """Id of the process that answers on the socket."""
        with self.client() as client:
            return int(client.get("/health").json()["pid"])

    async def until_running(self) -> None:
        """Wait until the model works on a request."""
        async with httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(self.paths.socket)),
            base_url="http://engine",
        ) as client:
            while "fim_running 1.0" not in (await client.get("/metrics")).text:
                pass

    def kill_engine(self) -> None:
        """Kill the engine that a front-end started, if any, and leave its dead socket.

        With several front-ends, another may have started an engine that takes over only now.
        """
        with self.client() as client:
            while self._listens():
                with suppress(httpx2.TransportError, ProcessLookupError):
                    pid = client.get("/health", headers={"Connection": "close"}).json()["pid"]
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.paths.socket)) == 0

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()


def until_ready(
    client: httpx2.Client, check: Callable[[], None], seconds: float = 120
) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check()
        try:
            health: dict[str, object] = client.get("/health").json()
        except httpx2.TransportError:
            health = {}
        if health.get("status") in ("ok", "failed"):
            return health
        time.sleep(0.05)
    raise AssertionError(f"no engine was ready within {seconds} s")


def new_home(model: Path) -> EngineHome:
    # Not pytest's folder: its path is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="fim-"))
    (folder / "run").mkdir(mode=0o700)
    return EngineHome(folder, model)


@dataclass(frozen=True)
class TcpEngine:
    """An engine on a port of 127.0.0.1, and the key that it asks for."""

    home: EngineHome
    url: str
    key: str


def start_tcp_engine(home: EngineHome) -> TcpEngine:
    """Start an engine on a free port and wait until its model is loaded."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = home.start("--tcp", str(port), "--api-key", KEY)

    def check() -> None:
        assert engine.poll() is None, engine.stderr and engine.stderr.read()

    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http:
        until_ready(http, check)
    return TcpEngine(home, f"http://127.0.0.1:{port}", KEY)
