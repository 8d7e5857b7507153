"""Which servers are reached through the environment's proxy, and what an unusable one means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fim_model.requests import CompletionRequest

from fim_server.backends import resilience
from fim_server.backends.base import BackendError
from fim_server.backends.connections import is_loopback, json_content, route_to, socket_transport
from fim_server.backends.openai import OpenAIBackend
from fim_server.backends.remote import RemoteServer

REQUEST = CompletionRequest("secret_code = ", "\n", max_tokens=4)
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(resilience, "FIRST_RETRY_SECONDS", 0.001)


@asynccontextmanager
async def recording(
    answer: bytes, host: str = "127.0.0.1", status: str = "200 OK"
) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers everything with a JSON body; its port and all text it has received."""
    received: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.append(data.decode())
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n"
            writer.write(head.encode() + answer)
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], received


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "127.0.0.2", "127.1"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_loopback_is_never_reached_through_a_proxy(
    host: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"choices": [{"text": "1", "finish_reason": "stop"}]}).encode()
    async with recording(b"{}") as (proxy, seen), recording(body, "0.0.0.0") as (port, received):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("FIM_SERVER_API_KEY", "the-key")
        monkeypatch.setenv("FIM_SERVER_API_HOST", f"{host}:{port}")
        backend = OpenAIBackend(f"http://{host}:{port}/v1", "m")
        completion = await backend.complete(REQUEST)
        await backend.close()
    assert [item.text for item in completion.items] == ["1"]
    assert seen == []
    assert "the-key" in received[0]


async def test_other_hosts_are_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"data": [{"id": "m"}]}).encode()
    async with recording(body) as (proxy, seen):
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy}")  # without a scheme, as curl allows
        server = RemoteServer("http://models.example:8000/v1")
        assert await server.get("/models") == {"data": [{"id": "m"}]}
        await server.close()
    assert seen[0].startswith("GET http://models.example:8000/v1/models HTTP/1.1")


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://127.0.0.1:1",
        "socks5h://127.0.0.1:1",
        "socks4://127.0.0.1:1",
        "ftp://127.0.0.1:1",
        "http://",
        "http://[::1",
        "http://proxy:port",
        "http://proxy:99999",
        "http://user:pass word@proxy:1",
        "http://user:pass word/x@proxy:1",
        "://",
        "nonsense with blanks",
    ],
)
async def test_an_unusable_proxy_is_a_message_that_names_it(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    server = RemoteServer("https://models.example/v1")
    with pytest.raises(BackendError) as refused:
        await server.get("/models")
    message = str(refused.value)
    assert "HTTPS_PROXY" in message
    assert "NO_PROXY" in message
    assert "pass word" not in message
    assert "\n" not in message
    await server.close()


async def test_a_proxy_of_another_scheme_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"data": []}).encode()
    async with recording(body, "0.0.0.0") as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "nonsense with blanks")
        monkeypatch.setenv("SSL_CERT_FILE", "/there/is/no/such/file")
        server = RemoteServer(f"http://127.0.0.1:{port}/v1")
        assert await server.get("/models") == {"data": []}
        await server.close()


async def test_a_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with recording(b"{}") as (port, _):
        pass
    monkeypatch.setenv("HTTP_PROXY", f"http://user:hidden@127.0.0.1:{port}")
    server = RemoteServer("http://models.example/v1")
    with pytest.raises(BackendError, match=r"through the proxy in HTTP_PROXY$") as refused:
        await server.get("/models")
    assert "hidden" not in str(refused.value)
    await server.close()


@pytest.mark.parametrize(
    ("scheme", "status", "named"),
    [
        ("http", "407 Proxy Authentication Required", "status 407; check user and password in its"),
        (
            "https",
            "407 Proxy Authentication Required",
            "status 407; check user and password in its",
        ),
        ("https", "403 Forbidden", "status 403; check its address, or add models.example to"),
        ("http", "403 Forbidden", "refuses the key: .* through the proxy in HTTP_PROXY$"),
        ("http", "302 Found", "with status 302 through the proxy in HTTP_PROXY$"),
    ],
)
async def test_a_proxy_that_answers_itself_is_named(
    scheme: str, status: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recording(b"<html>no</html>", status=status) as (port, _):
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://user:hidden@127.0.0.1:{port}")
        server = RemoteServer(f"{scheme}://models.example/v1")
        with pytest.raises(BackendError, match=named) as refused:
            await server.get("/models")
        assert "hidden" not in str(refused.value)
        await server.close()


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "http://a.example", True),
        ("b.example, *", "http://a.example", True),
        ("a.example", "http://a.example", True),
        ("a.example", "http://www.a.example", True),
        ("a.example", "http://nota.example", False),
        (".a.example", "http://www.a.example", True),
        ("*.a.example", "http://www.a.example", True),
        ("A.EXAMPLE", "http://a.example", True),
        ("b.example a.example", "http://a.example", True),
        ("a.example:8000", "http://a.example:8000/v1", True),
        ("a.example:8000", "http://a.example:8001/v1", False),
        ("a.example:80", "http://a.example/v1", True),
        ("10.0.0.0/8", "http://10.1.2.3/v1", True),
        ("10.0.0.0/8", "http://11.1.2.3/v1", False),
        ("10.1.2.3", "http://10.1.2.3:9/v1", True),
        ("fd00::/8", "http://[fd00::1]:9/v1", True),
        ("[fd00::1]", "http://[fd00::1]/v1", True),
        ("[fd00::1]:9", "http://[fd00::1]:8/v1", False),
        ("10.1.2.3", "http://[::ffff:10.1.2.3]/v1", True),
        ("b\u00fccher.example", "http://xn--bcher-kva.example/v1", True),
        (".xn--bcher-kva.example", "http://a.b\u00fccher.example/v1", True),
        ("other.example", "http://ip6-localhost:8000/v1", True),
        ("other.example", "http://localhost.localdomain:8000/v1", True),
        ("10.0.0.0/99, ,,", "http://10.1.2.3/v1", False),
        ("", "http://a.example", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (route_to(urlsplit(url)).proxy is None) is direct


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("2130706433", True),
        ("app.localhost", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("128.0.0.1", False),
        ("notlocalhost", False),
        ("LOCALHOST.", True),
        ("localhost\u3002", True),
        ("127\uff0e0\uff0e0\uff0e1", True),
        ("127\u30020\u30020\u3002example", False),
        ("ip6-localhost", False),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE"])
async def test_certificates_that_cannot_be_read_are_named(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for value in ("/there/is/no/such/file", str(tmp_path / "empty.pem"), str(tmp_path)):
        monkeypatch.setenv(variable, value)
        server = RemoteServer("https://models.example/v1")
        with pytest.raises(BackendError, match=f"the certificates in {variable} cannot be read"):
            await server.get("/models")
        await server.close()


async def test_a_unix_socket_needs_neither_proxy_nor_certificates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "nonsense with blanks")
    monkeypatch.setenv("SSL_CERT_FILE", "/there/is/no/such/file")
    async with httpx2.AsyncClient(
        transport=socket_transport(f"{tmp_path}/none.sock"), base_url="http://e", trust_env=False
    ) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("/health")


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/v1",
        "http://host:abc/v1",
        "http://host:0/v1",
        "http://user:hidden@host:99999/v1",
        "http://user:hidden/x@host/v1",
        "http://user:hidden",
        "ftp://host/v1",
        "http:///v1",
        "host:8000",
        "",
    ],
)
def test_an_address_that_is_none_is_a_message_without_its_secrets(url: str) -> None:
    with pytest.raises(BackendError, match="remoteUrl is not an") as refused:
        RemoteServer(url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "exa mple", "-", "a_b\u3002"])
async def test_a_host_that_cannot_exist_is_a_message(host: str) -> None:
    with pytest.raises(BackendError, match=r"^[^\n]+$"):
        await RemoteServer(f"http://{host}/v1").get("/models")


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "a\0b"])
def test_a_key_that_no_header_can_hold(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fim_server.backends import remote

    monkeypatch.setattr(remote, "api_key", lambda url: key)
    with pytest.raises(BackendError, match="the key has characters that an HTTP header") as refused:
        RemoteServer("https://models.example/v1")
    assert key not in str(refused.value)


def test_a_body_with_half_a_surrogate_pair_can_be_sent() -> None:
    assert json_content({"session": "a\ud83d", "text": "é😀"})["content"] == (
        '{"session":"a?","text":"é😀"}'.encode()
    )
