"""`fim-server engine --tcp`: one process and one model, on the socket and on the port."""

from __future__ import annotations

import socket
import time

import httpx2
import pytest
from engine_home import EngineHome, TcpEngine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def health(port: int, seconds: float = 120, key: str = "") -> dict[str, object] | None:
    """The health report on a port, waiting until it is open; None if it does not open."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            answer = httpx2.get(f"http://127.0.0.1:{port}/health", headers=headers)
            assert answer.status_code in (200, 503), answer.text
            return dict(answer.json())
        except (httpx2.TransportError, OSError):
            time.sleep(0.05)
    return None


def test_a_new_engine_serves_socket_and_port_from_one_process(tcp: TcpEngine) -> None:
    port = int(tcp.url.rpartition(":")[2])
    on_port = health(port, key=tcp.key)
    assert on_port is not None
    assert on_port["pid"] == tcp.home.engine_pid() == tcp.home.processes[0].pid


def test_a_running_engine_opens_the_port_while_the_command_runs(home: EngineHome) -> None:
    home.start()
    home.wait_until_ready()
    port = free_port()
    command = home.start("--tcp", str(port))
    on_port = health(port)
    assert on_port is not None
    assert on_port["pid"] == home.processes[0].pid == home.engine_pid()
    assert command.poll() is None
    refused = httpx2.post(f"http://127.0.0.1:{port}/v1/listen", json={"port": free_port()})
    assert refused.status_code == 404, "ports are opened over the user's socket alone"
    with home.client() as client:
        opened = {"ports": [{"port": port, "key": ""}], "model": home.model.name}
        assert client.get("/v1/listen").json() == opened

    command.terminate()
    command.wait(60)
    deadline = time.monotonic() + 60
    while health(port, seconds=0.1) is not None:
        assert time.monotonic() < deadline, "the port is still open"
    assert home.engine_pid() == home.processes[0].pid, "the engine goes on"
    with home.client() as client:
        assert client.get("/v1/listen").json()["ports"] == []


def test_a_running_engine_asks_for_the_key_of_the_command(home: EngineHome) -> None:
    home.start()
    home.wait_until_ready()
    port = free_port()
    home.start("--tcp", str(port), "--api-key", "secret")
    assert health(port) == {"status": "ok"}
    report = health(port, key="secret")
    assert report is not None
    assert report["pid"] == home.processes[0].pid
    assert httpx2.get(f"http://127.0.0.1:{port}/metrics").status_code == 401


@pytest.mark.parametrize("key", ["", "two words", "schl\u00fcssel"])
def test_a_key_that_no_header_can_carry_is_refused(home: EngineHome, key: str) -> None:
    command = home.start("--tcp", str(free_port()), "--api-key", key)
    assert command.wait(120) == 2
    assert command.stderr is not None
    said = command.stderr.read().decode()
    assert "--api-key: the" in said
    assert not key or key not in said


def test_the_command_becomes_the_engine_when_the_running_one_ends(home: EngineHome) -> None:
    first = home.start()
    home.wait_until_ready()
    port = free_port()
    command = home.start("--tcp", str(port))
    assert health(port) is not None
    first.terminate()
    first.wait(60)
    deadline = time.monotonic() + 120
    while (health(port) or {}).get("pid") != command.pid:
        assert time.monotonic() < deadline, "the command did not take over"
    assert home.engine_pid() == command.pid


@pytest.mark.parametrize("running", [False, True])
def test_a_taken_port_is_named(home: EngineHome, running: bool) -> None:
    if running:
        home.start()
        home.wait_until_ready()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = home.start("--tcp", str(port))
        assert command.wait(120) == 2
        assert command.stderr is not None
        said = command.stderr.read().decode()
    assert f"port {port}: cannot be used" in said
    assert "Traceback" not in said
    if running:
        assert home.engine_pid() == home.processes[0].pid


def test_a_lone_engine_exits_when_idle_but_not_while_a_port_is_open(home: EngineHome) -> None:
    engine = home.start("--idle-minutes", "0.1")
    home.wait_until_ready()
    with home.opened_port(""):  # at once: a command may start slower than the engine ends
        time.sleep(9)
        assert engine.poll() is None, "the open port keeps it"
    assert engine.wait(60) == 0


@pytest.mark.parametrize("port", [-1, 70000, "80", None, True])
def test_other_values_than_ports_are_refused(engine: httpx2.Client, port: object) -> None:
    answer = engine.post("/v1/listen", json={"port": port})
    assert answer.status_code == 400
    assert "port" in answer.json()["error"]["message"]
