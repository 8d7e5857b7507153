"""Who may use a port: programs of this machine, with the key if one is set, and no web page."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from engine_home import EngineHome, TcpEngine

from fim_server.engine.port_guard import is_this_machine

HOLE = {"prefix": "x = ", "suffix": "\n", "max_tokens": 1}


def refused(url: str, path: str = "/health", **headers: str) -> str:
    """The message of a refusal with status 403."""
    answer = httpx2.get(url + path, headers=headers)
    assert answer.status_code == 403, answer.text
    return str(answer.json()["error"]["message"])


def own(url: str) -> str:
    return urlsplit(url).netloc


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8012", "127.0.0.1", "LOCALHOST:1", "localhost.", "[::1]:8012", "127.8.9.1",
        "fim.localhost:8012", "host.docker.internal:8012",
    ],
)  # fmt: skip
def test_names_of_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "127.0.0.1.evil.example:8012", "localhost.evil.example", "0.0.0.0",
        "192.168.1.5:8012", "localhost@evil.example", "evil.example#localhost", "localhost:x",
        "[::2]", "2130706433", "notlocalhost", "8.8.8.8",
    ],
)  # fmt: skip
def test_other_names(host: str) -> None:
    assert not is_this_machine(host)


def test_without_a_key_any_program_is_served(keyless: str) -> None:
    answer = httpx2.post(keyless + "/v1/fim", json=HOLE)
    assert answer.json()["stats"]["tokens"] == 1
    # Clients that insist on a key send some.
    with openai.OpenAI(base_url=keyless + "/v1", api_key="none", max_retries=0) as client:
        assert len(list(client.models.list())) == 1


def test_the_host_must_be_this_machine(keyless: str, tcp: TcpEngine) -> None:
    """DNS rebinding: the page's own name is in the Host header."""
    assert "'evil.example:8012'" in refused(keyless, Host="evil.example:8012")
    told = refused(tcp.url, Host="evil.example", Authorization=f"Bearer {tcp.key}")
    assert "http://127.0.0.1" in told, "also with the key"
    for path in ("/", "/nothing", "/v1/fim"):
        refused(keyless, path, Host="evil.example")


def test_two_hosts_or_none_are_refused(keyless: str) -> None:
    for lines in ("Host: localhost\r\nHost: evil.example\r\n", "Host: \r\n"):
        with socket.create_connection(("127.0.0.1", int(own(keyless).split(":")[1]))) as raw:
            raw.settimeout(10)
            raw.sendall(f"GET /health HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert raw.recv(100).split(b" ")[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "file://", ""],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_other_origins_are_refused(keyless: str, origin: str, method: str) -> None:
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    answer = httpx2.request(method, keyless + "/v1/fim", headers=headers, content=b"{}")
    assert answer.status_code == 403
    assert "may not use the engine" in answer.json()["error"]["message"]
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_engine_s_own_page_is_served(keyless: str) -> None:
    headers = {"Origin": keyless.upper().replace("HTTP", "http"), "Sec-Fetch-Site": "same-origin"}
    assert httpx2.post(keyless + "/v1/fim", headers=headers, json=HOLE).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_without_origin_that_other_sites_make_are_refused(keyless: str, site: str) -> None:
    """A GET of an image or a script has no Origin."""
    for path in ("/metrics", "/v1/status", "/props"):
        assert "may not use" in refused(keyless, path, **{"Sec-Fetch-Site": site})
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert httpx2.get(keyless, headers=link).status_code == 200, "a link to the page"
    assert "may not use" in refused(keyless, "/", **{**link, "Sec-Fetch-Dest": "iframe"})
    assert "may not use" in refused(keyless, "/v1/status", **link)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Sec-Fetch-Site", ["same-origin", "cross-site"]),
        ("Sec-Fetch-Site", ["none", "same-site"]),
        ("Sec-Fetch-Site", ["CROSS-SITE"]),
        ("Sec-Fetch-Site", [""]),
        ("Origin", ["OWN", "https://evil.example"]),
        ("Origin", ["OWN/"]),
        ("Origin", ["OWN.evil.example"]),
    ],
)
def test_a_header_given_twice_or_oddly_is_read_whole(
    name: str, values: list[str], keyless: str
) -> None:
    headers = [(name, value.replace("OWN", keyless)) for value in values]
    answer = httpx2.get(keyless + "/v1/models", headers=headers)
    assert answer.status_code == 403, answer.text


def test_no_answer_may_be_read_or_framed_by_others(keyless: str) -> None:
    for path in ("/", "/health", "/nothing"):
        answer = httpx2.get(keyless + path)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_key_is_required_in_one_of_its_headers(tcp: TcpEngine) -> None:
    for given in (
        {"Authorization": f"Bearer {tcp.key}"},
        {"authorization": f"bearer {tcp.key}"},
        {"X-Api-Key": tcp.key},
        {"api-key": tcp.key, "Authorization": "Bearer undefined"},
    ):
        assert httpx2.get(tcp.url + "/metrics", headers=given).status_code == 200, given
    for wrong in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {tcp.key}"},
        {"Authorization": f"Bearer {tcp.key}x"},
        {"X-Api-Key": tcp.key[:-1]},
        {"Authorization": "Bearer sch\u00fcssel".encode("latin-1")},
    ):
        for path in ("/metrics", "/v1/models", "/props", "/v1/status"):
            answer = httpx2.get(tcp.url + path, headers=wrong)
            assert answer.status_code == 401, (wrong, path)
        message = answer.json()["error"]["message"]
        assert "--print-config" in message
        assert tcp.key not in message


def test_without_the_key_the_status_alone_is_told(tcp: TcpEngine) -> None:
    assert httpx2.get(tcp.url + "/health").json() == {"status": "ok"}
    assert httpx2.get(tcp.url + "/v1/health").json() == {"status": "ok"}
    assert httpx2.get(tcp.url + "/health", headers={"X-Api-Key": "x"}).status_code == 401
    with pytest.raises(openai.AuthenticationError, match="the API key is wrong"):
        openai.OpenAI(base_url=tcp.url + "/v1", api_key="guess", max_retries=0).models.list()


def test_refusals_are_logged_and_reported_without_the_keys(home: EngineHome) -> None:
    engine = home.start("--verbose")
    assert home.wait_until_ready()["refused"] is None
    with home.opened_port("right-key") as url:
        for _ in range(3):
            headers = {"Authorization": "Bearer wrong-key"}
            assert httpx2.get(url + "/metrics", headers=headers).status_code == 401
        report = httpx2.get(url + "/health", headers={"X-Api-Key": "right-key"}).json()["refused"]
        assert report["count"] == 3
        assert "the API key is wrong" in report["problem"]
        assert "--print-config" in report["problem"]
        status = httpx2.get(url + "/v1/status", headers={"X-Api-Key": "right-key"}).json()
        assert status["refused"]["count"] == 3
    engine.terminate()
    engine.wait(60)
    assert engine.stderr is not None
    log = engine.stderr.read().decode()
    assert log.count("requests refused: the API key is wrong") == 1, "at most one line a minute"
    assert "wrong-key" not in log
    assert "right-key" not in log


def test_the_user_s_own_socket_needs_none_of_this(engine: httpx2.Client) -> None:
    answer = engine.get("/health", headers={"Host": "engine", "Origin": "https://evil.example"})
    assert answer.json()["status"] == "ok"
