"""`doctor` on engines and remote servers: real ones, missing ones, and broken ones."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from engine_home import EngineHome, TcpEngine, new_home

from fim_server.backends import resilience
from fim_server.cli import main
from fim_server.commands import doctor_servers
from fim_server.commands.findings import Finding
from fim_server.engine.wire import PROTOCOL
from fim_server.settings.settings import Settings
from fim_server.settings.sources import config_file

WELL: dict[str, object] = {
    "pid": 7,
    "status": "ok",
    "protocol": PROTOCOL,
    "version": version("fim-server"),
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The path of an engine's socket in an existing, private, empty folder."""
    home = new_home(tmp_path)
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    home.paths.socket.parent.mkdir(mode=0o700)
    yield home.paths.socket
    home.paths.socket.unlink(missing_ok=True)


def look(place: Path, tmp_path: Path) -> Finding:
    [finding] = doctor_servers.engine(Settings(model=str(tmp_path)))
    assert (finding.fix == "") == (finding.verdict == "ok")
    return finding


@contextmanager
def listening(place: Path, health: dict[str, object] | None) -> Iterator[None]:
    """A server on the socket that answers `health`, or closes every connection if it is None."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if health is not None:
                body = json.dumps(health).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def address_string(self) -> str:
            return "somebody"

        def log_message(self, format: str, *arguments: Any) -> None: ...

    with socketserver.UnixStreamServer(str(place), Handler) as server:
        place.chmod(0o600)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield
        finally:
            server.shutdown()


def test_no_engine_is_not_a_problem(place: Path, tmp_path: Path) -> None:
    assert look(place, tmp_path).message.startswith("not running")
    place.parent.rmdir()
    assert look(place, tmp_path).verdict == "ok"


def test_a_stale_socket_is_not_a_problem(place: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    place.chmod(0o600)
    finding = look(place, tmp_path)
    assert (finding.verdict, finding.message.endswith("the next request replaces it")) == (
        "ok",
        True,
    )


def test_a_file_in_place_of_the_socket_is_reported(place: Path, tmp_path: Path) -> None:
    place.write_text("")
    assert look(place, tmp_path) == Finding(
        "engine", "fail", f"{place}: is not a socket", f"remove {place}"
    )


def test_a_socket_or_folder_open_to_others_is_reported(place: Path, tmp_path: Path) -> None:
    with listening(place, WELL):
        place.chmod(0o666)
        assert look(place, tmp_path).fix == f"chmod 600 {place}"
        place.parent.chmod(0o755)
        finding = look(place, tmp_path)
        assert finding.message.endswith("other users may enter it")
        assert finding.fix == f"run: chmod 700 {place.parent}"
        place.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("said", "verdict", "named", "fix"),
    [
        (WELL, "ok", "process 7, version", ""),
        (WELL | {"status": "loading"}, "ok", ", loading, on ", ""),
        (WELL | {"version": "0.0"}, "fail", "(process 7) is version 0.0, this is", "kill 7"),
        (WELL | {"protocol": 0}, "fail", "(process 7) is version", "kill 7"),
        (
            WELL | {"status": "failed", "problem": "no weights"},
            "fail",
            "failed to load its model: no weights",
            "correct the setting model",
        ),
        (None, "fail", "the listening process does not answer", "end the process"),
        (WELL | {"refused": None}, "ok", "process 7, version", ""),
        (
            WELL | {"refused": {"count": 2, "problem": "the API key is wrong", "seconds_ago": 9}},
            "warn",
            "2 requests were refused, the last one 9 s ago: the API key is wrong",
            "give the client what `fim-server engine --print-config CLIENT` prints",
        ),
    ],
    ids=["well", "loading", "version", "protocol", "failed", "mute", "none refused", "refused"],
)
def test_the_engines_health_is_shown(
    place: Path,
    tmp_path: Path,
    said: dict[str, object] | None,
    verdict: str,
    named: str,
    fix: str,
) -> None:
    with listening(place, said):
        finding = look(place, tmp_path)
    assert finding.verdict == verdict
    assert named in finding.message
    assert finding.fix.startswith(fix)


def test_a_runtime_folder_that_cannot_be_created(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr(
        doctor_servers,
        "EngineBackend",
        lambda model: type("Backend", (), {"paths": Place(tmp_path / "no" / "x.sock")}),
    )
    finding = look(tmp_path, tmp_path)
    assert finding.message == f"{tmp_path / 'no'}: cannot be created in {tmp_path}"
    assert finding.fix == "set XDG_RUNTIME_DIR"


class Place:
    def __init__(self, path: Path) -> None:
        self.socket = path


def test_the_real_engine_in_the_report(
    shared_home: EngineHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, shared_home.environment[name])
    file = config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"model = {json.dumps(str(shared_home.model))}\n")
    try:
        main(("doctor", "--json"))
    finally:
        file.unlink()
    findings = json.loads(capsys.readouterr().out)["findings"]
    [engine] = [finding for finding in findings if finding["topic"] == "engine"]
    assert engine["verdict"] == "ok"
    assert f"process {shared_home.processes[0].pid}, version {version('fim-server')}" in str(engine)
    assert not [finding for finding in findings if finding["topic"] == "remote"], (
        "none is configured"
    )


def remote(**settings: Any) -> Finding:
    [finding] = doctor_servers.remote(Settings(**({"backend": "openai"} | settings)))
    assert (finding.fix == "") == (finding.verdict == "ok")
    return finding


def test_a_remote_server_that_answers(tcp: TcpEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    host, url = urlsplit(tcp.url).netloc, tcp.url + "/v1"
    refused = remote(remote_url=url)
    assert (refused.verdict, refused.message) == ("fail", f"{host} refuses the key")
    assert f"FIM_SERVER_API_HOST={host}" in refused.fix
    llama = remote(remote_url=tcp.url, backend="llama_cpp")
    assert (llama.verdict, llama.message) == ("fail", f"{host} refuses the key"), "not by /health"
    monkeypatch.setenv("FIM_SERVER_API_KEY", tcp.key)
    monkeypatch.setenv("FIM_SERVER_API_HOST", host)
    name = tcp.home.model.name
    assert remote(remote_url=url) == Finding("remote", "ok", f"{host} serves {name}")
    assert remote(remote_url=url, remote_model=name).verdict == "ok"
    other = remote(remote_url=url, remote_model="other")
    assert (other.verdict, other.fix) == ("warn", f"set remoteModel to {name}")
    assert remote(remote_url=tcp.url, backend="llama_cpp").message == f"{host} answers"
    assert "status 404" in remote(remote_url=tcp.url).message


def test_an_unreachable_remote_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience, "FIRST_RETRY_SECONDS", 0.001)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    finding = remote(remote_url=f"http://127.0.0.1:{port}/v1")
    assert finding.message == f"127.0.0.1:{port} cannot be reached (ConnectError)"
    assert "correct remoteUrl" in finding.fix
    assert (
        remote(remote_url="ftp://x").message
        == "remoteUrl is not an http or https address, such as http://host:port/v1"
    )
    assert remote().fix == "set remoteUrl, for example http://host:port/v1"


def test_unconfigured_backends_are_not_checked() -> None:
    assert not list(doctor_servers.remote(Settings(remote_url="http://127.0.0.1:1")))
    for backend in ("openai", "llama_cpp", "in_process"):
        assert not list(doctor_servers.engine(Settings(backend=backend)))  # type: ignore[arg-type]
