"""Remote servers as backends: an engine in its own process, and misbehaving servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from engine_home import TcpEngine
from fim_model.requests import CompletionRequest

from fim_server.backends import resilience
from fim_server.backends.base import BackendError
from fim_server.backends.keys import api_key
from fim_server.backends.llama_cpp import LlamaCppBackend
from fim_server.backends.openai import OpenAIBackend
from fim_server.backends.remote import cut_lines
from fim_server.backends.resilience import CircuitBreaker, Temporary, with_retries
from fim_server.backends.templates import TEMPLATES
from fim_server.lsp.backend_choice import backend_for
from fim_server.settings.settings import REMOTE_TEMPLATES, Settings

REQUEST = CompletionRequest("def add(a, b):\n    return ", "\n\nx = 1\n", max_tokens=8)
OK_MODELS = b'{"data": [{"id": "m"}]}'


def unseen(what: str, share: float) -> None: ...


@pytest.fixture
def trusted(tcp: TcpEngine, monkeypatch: pytest.MonkeyPatch) -> TcpEngine:
    """The engine, with its token configured as the API key for its host."""
    monkeypatch.setenv("FIM_SERVER_API_KEY", tcp.key)
    monkeypatch.setenv("FIM_SERVER_API_HOST", urlsplit(tcp.url).netloc)
    return tcp


async def test_an_openai_server_with_suffix(trusted: TcpEngine) -> None:
    backend = OpenAIBackend(trusted.url + "/v1")
    await backend.start(unseen)
    completion = await backend.complete(REQUEST)
    [item] = completion.items
    assert item.text
    assert item.finish == "length"
    assert completion.stats is not None
    assert completion.stats.tokens == 8
    await backend.close()


async def test_a_template_puts_the_suffix_into_the_prompt(trusted: TcpEngine) -> None:
    """The server receives a single prompt, and recognises its markers: the same hole as with
    `suffix`."""
    plain, marked = (
        OpenAIBackend(trusted.url + "/v1", template=name) for name in (None, "starcoder")
    )
    for backend in (plain, marked):
        await backend.start(unseen)
    answers = [await backend.complete(REQUEST) for backend in (plain, marked)]
    assert answers[0].items[0].text == answers[1].items[0].text
    first, second = (answer.stats for answer in answers)
    assert first is not None
    assert second is not None
    # The same prompt: only its last token is computed again. (A test before may have left the first
    # one in the cache too.)
    prompt_tokens = first.prefill_tokens + first.reused_tokens
    assert (second.prefill_tokens, second.reused_tokens) == (1, prompt_tokens - 1)
    for backend in (plain, marked):
        await backend.close()


async def test_llama_cpps_infill(trusted: TcpEngine) -> None:
    backend = LlamaCppBackend(trusted.url)
    await backend.start(unseen)
    first = await backend.complete(REQUEST)
    again = await backend.complete(REQUEST)
    assert first.items[0].text == again.items[0].text
    assert again.stats is not None
    assert again.stats.reused_tokens > 10
    await backend.close()


async def test_a_wrong_key_is_reported_with_a_remedy(tcp: TcpEngine) -> None:
    backend = OpenAIBackend(tcp.url + "/v1")
    host = urlsplit(tcp.url).netloc
    with pytest.raises(BackendError, match=f"refuses the key: .*FIM_SERVER_API_HOST={host}"):
        await backend.start(unseen)
    await backend.close()


async def test_a_refused_request_does_not_open_the_circuit(trusted: TcpEngine) -> None:
    backend = OpenAIBackend(trusted.url + "/v1")
    await backend.start(unseen)
    bad = CompletionRequest("x", "")
    # Our own requests are checked when they are made; what other clients send is not.
    object.__setattr__(bad, "temperature", -1.0)
    for _ in range(resilience.FAILURES_TO_OPEN + 1):
        with pytest.raises(BackendError, match="status 400: temperature must be"):
            await backend.complete(bad)
    assert (await backend.complete(REQUEST)).items
    await backend.close()


@asynccontextmanager
async def server(answer: Callable[[], bytes | None]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers every request with `answer()`, or never if it is None; and its log."""
    asked: list[str] = []
    open_connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.append(writer)
        while line := await reader.readline():
            asked.append(line.decode().split(" HTTP")[0])
            length = 0
            while (header := await reader.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            await reader.readexactly(length)
            said = answer()
            if said is None:
                return
            writer.write(said)
            await writer.drain()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        listening.close()
        for connection in open_connections:
            connection.close()


def http(status: str, body: bytes = b"{}", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience, "FIRST_RETRY_SECONDS", 0.001)


async def test_temporary_failures_are_retried() -> None:
    answers = iter([http("503 Busy"), http("429 Slow"), http("200 OK", OK_MODELS)])
    async with server(lambda: next(answers)) as (url, asked):
        backend = OpenAIBackend(url + "/v1")
        await backend.start(unseen)
        assert asked == ["GET /v1/models"] * 3
        await backend.close()


@pytest.mark.parametrize(
    ("said", "shown"), [(" a + b", ["a + b"]), (" a\\n    b", ["a"]), ("a + b", [])]
)
async def test_an_answer_must_begin_with_what_was_typed(said: str, shown: list[str]) -> None:
    """A joined prompt ends before the white space at the cursor; the server writes it again."""
    body = f'{{"choices": [{{"text": "{said}", "finish_reason": "stop"}}]}}'.encode()
    async with server(lambda: http("200 OK", body)) as (url, _):
        backend = OpenAIBackend(url + "/v1", model="m", template="fim-server-joined")
        completion = await backend.complete(replace(REQUEST, max_lines=1))
        assert [item.text for item in completion.items] == shown
        await backend.close()


async def test_a_server_that_keeps_failing_opens_the_circuit() -> None:
    async with server(lambda: http("500 Broken")) as (url, asked):
        backend = LlamaCppBackend(url)
        for _ in range(resilience.FAILURES_TO_OPEN):
            with pytest.raises(BackendError, match=r"answers with status 500$"):
                await backend.complete(REQUEST)
        count = len(asked)
        assert count == resilience.FAILURES_TO_OPEN * (resilience.RETRIES + 1)
        with pytest.raises(BackendError, match=r"status 500; next attempt in \d s"):
            await backend.complete(REQUEST)
        assert len(asked) == count
        await backend.close()


async def test_a_long_retry_after_is_left_to_the_breaker() -> None:
    async with server(lambda: http("429 Slow", headers="Retry-After: 60\r\n")) as (url, asked):
        backend = LlamaCppBackend(url)
        with pytest.raises(BackendError, match="status 429"):
            await backend.complete(REQUEST)
        assert len(asked) == 1
        await backend.close()


async def test_an_unreachable_server() -> None:
    async with server(lambda: None) as (url, _):
        pass
    backend = OpenAIBackend(url + "/v1")
    with pytest.raises(BackendError, match=r"127.0.0.1:\d+ cannot be reached \(ConnectError\)"):
        await backend.start(unseen)
    await backend.close()


async def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fim_server.backends.remote.ANSWER_SECONDS", 0.05)
    async with server(lambda: None) as (url, _):
        backend = LlamaCppBackend(url)
        with pytest.raises(BackendError, match="does not answer in time"):
            await backend.complete(REQUEST)
        await backend.close()


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (http("200 OK", b"<html>"), "does not answer /infill with JSON"),
        (http("200 OK", b"[]"), "lacks the field content"),
        (http("404 Not Found"), "refuses POST /infill with status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "does not answer|cannot be reached"),
        (b"nonsense\r\n\r\n", "cannot be reached"),
    ],
)
async def test_malformed_answers(
    answer: bytes, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fim_server.backends.remote.ANSWER_SECONDS", 0.2)
    async with server(lambda: answer) as (url, _):
        backend = LlamaCppBackend(url)
        with pytest.raises(BackendError, match=named):
            await backend.complete(REQUEST)
        await backend.close()


async def test_the_breaker_lets_one_request_probe_after_its_back_off() -> None:
    now = [0.0]
    breaker = CircuitBreaker(clock=lambda: now[0])
    attempts = 0
    gate = asyncio.Event()

    async def broken() -> None:
        raise Temporary("down", after=99)

    async def slow_success() -> str:
        nonlocal attempts
        attempts += 1
        await gate.wait()
        return "up"

    for _ in range(resilience.FAILURES_TO_OPEN):
        with pytest.raises(Temporary):
            await with_retries(breaker, broken)
    with pytest.raises(BackendError, match="next attempt in 5 s"):
        await with_retries(breaker, slow_success)
    now[0] = resilience.FIRST_OPEN_SECONDS
    with pytest.raises(Temporary):
        await with_retries(breaker, broken)
    now[0] += resilience.FIRST_OPEN_SECONDS
    with pytest.raises(BackendError, match="in 5 s"):
        await with_retries(breaker, slow_success)
    now[0] += resilience.FIRST_OPEN_SECONDS
    trying = asyncio.create_task(with_retries(breaker, slow_success))
    await asyncio.sleep(0)
    with pytest.raises(BackendError):
        await with_retries(breaker, slow_success)
    gate.set()
    assert await trying == "up"
    assert await with_retries(breaker, slow_success) == "up"
    assert attempts == 2


async def test_a_cancelled_probe_lets_the_next_one_probe() -> None:
    breaker = CircuitBreaker(clock=lambda: 100.0)
    breaker.failures = resilience.FAILURES_TO_OPEN

    async def never() -> None:
        await asyncio.Event().wait()

    trying = asyncio.create_task(with_retries(breaker, never))
    await asyncio.sleep(0)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    breaker.check()


def test_a_key_is_sent_only_to_its_own_host(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"FIM_SERVER_API_KEY": "secret", "FIM_SERVER_API_HOST": "api.example:8443"}
    assert api_key("https://api.example:8443/v1", environment) == "secret"
    for other in (
        "https://api.example/v1",
        "https://evil.example/v1",
        "https://api.example:8443@evil.example",
    ):
        assert api_key(other, environment) is None
    assert api_key("https://x.example", {"FIM_SERVER_API_KEY": "secret"}) is None
    assert "set FIM_SERVER_API_HOST=x.example" in caplog.text
    assert "secret" not in caplog.text


def test_the_keyring_is_queried_by_host(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring", reason="keyring is not installed")
    entries = {("fim-server", "api.example"): "from the keyring"}
    monkeypatch.setattr(keyring, "get_password", lambda *entry: entries.get(entry))
    assert api_key("https://api.example/v1", {}) == "from the keyring"
    assert api_key("https://other.example/v1", {}) is None


async def test_a_key_is_never_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_SERVER_API_KEY", "secret")
    monkeypatch.setenv("FIM_SERVER_API_HOST", "gpu.example")
    with pytest.raises(BackendError, match="the key is not sent without https"):
        OpenAIBackend("http://gpu.example/v1")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(backend="openai"), "'openai' needs the setting 'remoteUrl'"),
        (Settings(backend="llama_cpp", remote_url="gpu:8000"), "is not an http or https address"),
    ],
)
async def test_invalid_settings_are_reported_at_startup(settings: Settings, named: str) -> None:
    with pytest.raises(BackendError, match=named):
        await backend_for(settings).start(unseen)


def test_every_template_can_be_set() -> None:
    assert tuple(TEMPLATES) == REMOTE_TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_take_any_text(name: str) -> None:
    filled = TEMPLATES[name].fill("P{suffix}", "S{prefix}")
    assert "P{suffix}" in filled
    assert "S{prefix}" in filled
    assert len(filled) == len(TEMPLATES[name].prompt) + 2


def test_lines_are_counted_from_the_first_non_blank_one() -> None:
    assert cut_lines("\n  a\nb\nc", 2) == "\n  a\nb"
    assert cut_lines("a\nb", None) == "a\nb"
