"""Odd answers of remote servers: each is a completion, or an error that names the reason."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fim_model.requests import CompletionRequest
from hypothesis import given
from hypothesis import strategies as st

from fim_server.backends import remote, resilience
from fim_server.backends.answers import (
    MAX_TEXT_CHARS,
    infilled,
    items_of,
    models_of,
    read_answer,
    stats_of,
)
from fim_server.backends.base import BackendError
from fim_server.backends.llama_cpp import LlamaCppBackend
from fim_server.backends.openai import OpenAIBackend

REQUEST = CompletionRequest("def add(a, b):\n    return ", "\n\nx = 1\n", max_tokens=8)
TEXT = {"choices": [{"text": "a + b"}]}


@asynccontextmanager
async def server(body: bytes, headers: str = "", status: str = "200 OK") -> AsyncIterator[str]:
    """A server that answers every request with a body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await reader.readexactly(length)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}"
        writer.write(f"{head}\r\n".encode() + body)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def openai_says(body: bytes, headers: str = "") -> str:
    """The text of the first item, or the message of the error."""
    async with server(body, headers) as url:
        backend = OpenAIBackend(f"{url}/v1", "m")
        try:
            return (await backend.complete(REQUEST)).items[0].text
        except BackendError as error:
            return str(error).replace(url.removeprefix("http://"), "HOST")
        finally:
            await backend.close()


@pytest.mark.parametrize(
    "extra",
    [
        {"usage": None},
        {"usage": {}},
        {"usage": []},
        {"usage": {"completion_tokens": "3", "prompt_tokens": "4.0"}},
        {"usage": {"completion_tokens": "many", "prompt_tokens": None}},
        {"usage": {"completion_tokens": 1, "prompt_tokens": 2, "prompt_tokens_details": "x"}},
        {"usage": {"completion_tokens": float("nan"), "prompt_tokens": float("inf")}},
        {"id": None, "created": "now", "error": None},
    ],
)
async def test_a_text_is_a_completion_whatever_else_is_odd(extra: dict[str, object]) -> None:
    assert await openai_says(json.dumps(TEXT | extra).encode()) == "a + b"


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "a + b", "finish_reason": "no_such_reason"},
        {"text": "a + b", "finish_reason": 7, "index": "0", "logprobs": None},
        {"message": {"role": "assistant", "content": "a + b"}},
        {"message": {"content": [{"type": "text", "text": "a + "}, {"text": "b"}]}},
        {"text": None, "message": {"content": "a + b"}},
        {"text": ["a ", "+ b"]},
    ],
)
async def test_a_choice_in_another_shape_is_read(choice: dict[str, object]) -> None:
    assert await openai_says(json.dumps({"choices": [choice]}).encode()) == "a + b"
    two = {"choices": [None, {"text": None}, choice]}
    assert await openai_says(json.dumps(two).encode()) == "a + b"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"choices": []}', "HOST: the answer has no choices"),
        (b'{"choices": null}', "HOST: the answer lacks the field choices"),
        (b'{"choices": {}}', "HOST: the answer has no choices"),
        (b"{}", "HOST: the answer lacks the field choices"),
        (b"null", "HOST: the answer lacks the field choices"),
        (b"[1]", "HOST: the answer lacks the field choices"),
        (b'{"choices": [{"text": null}]}', "HOST: the choices of the answer have no text"),
        (b'{"choices": [{"text": 7}]}', "HOST: the choices of the answer have no text"),
        (
            b'{"choices": [{"text": null, "finish_reason": "content_filter"}]}',
            "HOST: the choices of the answer have no text (finish_reason content_filter)",
        ),
        (b'{"error": {"message": "out of memory\\nmore"}}', "answers with an error: out of memory"),
        (b'{"error": "no such model"}', "answers with an error: no such model"),
        (b'{"error": {"code": 7}}', "HOST answers with an error"),
        (b"<!DOCTYPE html><h1>Sign in</h1>", "with JSON but with a web page; check remoteUrl"),
        (b"", "with JSON but with nothing; check remoteUrl"),
        (b"upstream error", "with JSON but with other text; check remoteUrl"),
        (b"[" * 100_000, "with JSON but with other text"),
        (b": keep-alive\n\n: keep-alive\n\n", "with JSON but with other text"),
        (b"data: [DONE]\n\n", "with JSON but with other text"),
        (b'event: error\ndata: {"message": "busy"}\n\n', "answers with an error: busy"),
        (b"event: error\ndata: busy\n\n", "answers with an error: busy"),
        (b'error: {"code": 500, "message": "busy"}\n\n', "answers with an error: busy"),
        (b'data: {"error": "EXPLODED"}\n\ndata: [DONE]\n\n', "answers with an error: EXPLODED"),
        (
            b'{"error": {"code": null, "message": "m does not support insert", "param": null}}',
            "HOST answers with an error: m does not support insert",
        ),
        (b'data: {"error": {"message": "busy"}}\n\n', "answers with an error: busy"),
        (b'data: {"choices": [{"text": "a"}]}\n\nevent: error\ndata: {}\n\n', "with an error"),
        (b'{"response": "a"}\n{"response": "b"}\n', "HOST answers with a stream that has no text"),
        # an error without the field `error`
        (b'{"object": "error", "message": "too long"}', "lacks the field choices: too long"),
        (b'{"detail": "Not Found"}', "lacks the field choices: Not Found"),
        (b'{"detail": [{"loc": ["body"], "msg": "required"}]}', "choices: required"),
        (b'{"errors": [{"message": "no quota"}]}', "lacks the field choices: no quota"),
        (b'{"type": "about:blank", "title": "Too Many"}', "lacks the field choices: Too Many"),
    ],
)
async def test_what_is_no_completion_has_a_reason(body: bytes, named: str) -> None:
    assert named in await openai_says(body)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_a_stream_that_nobody_asked_for_is_joined(end: str) -> None:
    pieces = [
        ": comment",
        "",
        "retry: 1000",
        "",
        "id: 7",
        "",
        'data: {"choices": [{"index": 0, "text": "a "}], "usage": null}',
        "",
        "event: completion",
        'data: {"choices": [{"index": 0, "text": "+ b", "finish_reason": "stop"}]}',
        "",
        'data: {"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens": 9}}',
        "",
        "data: [DONE]",
        "",
        "",
    ]
    assert await openai_says(end.join(pieces).encode()) == "a + b"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\r"])
@pytest.mark.parametrize("before", ["data: ", "data:", ""])
async def test_a_stream_with_other_line_ends_or_without_events(before: str, end: str) -> None:
    pieces = [{"choices": [{"text": text}]} for text in ("a ", "+ b")]
    lines = [f"{before}{json.dumps(piece)}{end}" for piece in pieces]
    lines += [f"data: [DONE]{end}"] if before else []
    assert await openai_says("".join(lines).encode()) == "a + b"


async def test_a_body_in_another_encoding() -> None:
    body = json.dumps(TEXT).encode()
    assert await openai_says(b"\xef\xbb\xbf" + body) == "a + b"
    assert await openai_says(b"  \n" + body + b"\n\n") == "a + b"
    assert await openai_says(json.dumps(TEXT).encode("utf-16")) == "a + b"
    assert await openai_says(gzip.compress(body), "Content-Encoding: gzip\r\n") == "a + b"
    said = await openai_says(body, "Content-Encoding: gzip\r\n")
    assert said == "HOST: the answer cannot be read (DecodingError)"
    assert await openai_says(b'{"choices": [{"text": "\xff"}]}') == "\ufffd"


async def test_a_stream_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(resilience, "RETRIES", 0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(200):
            writer.write(b": keep-alive\n\n")
            await asyncio.sleep(0.02)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    backend = OpenAIBackend(f"http://127.0.0.1:{port}/v1", "m")
    with pytest.raises(BackendError, match="does not answer in time"):
        await backend.complete(REQUEST)
    await backend.close()
    listening.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"content": "x"}, "x"),
        ({"content": "x", "timings": None, "tokens_cached": None}, "x"),
        ({"content": "x", "timings": {"predicted_n": "2", "prompt_n": 3.0}}, "x"),
        ({"content": "x", "timings": {"predicted_n": "two", "prompt_n": []}}, "x"),
        ({"content": "x", "stop_type": "no_such", "truncated": "yes"}, "x"),
        ({"content": None}, "the content of the answer is no text"),
        ({"content": 5}, "the content of the answer is no text"),
        ({"error": {"code": 501, "message": "no infill"}}, "answers with an error: no infill"),
        ([], "the answer lacks the field content"),
    ],
)
async def test_infill(answer: object, text: str) -> None:
    async with server(json.dumps(answer).encode()) as url:
        backend = LlamaCppBackend(url)
        try:
            said = (await backend.complete(REQUEST)).items[0].text
        except BackendError as error:
            said = str(error)
        await backend.close()
    assert said.endswith(text)


async def test_a_text_without_end_is_cut() -> None:
    long = "x" * (2 * MAX_TEXT_CHARS)
    [item] = items_of({"choices": [{"text": long, "finish_reason": "stop"}]}, "HOST")
    for cut in (item, infilled({"content": long}, "HOST")):
        assert (len(cut.text), cut.finish) == (MAX_TEXT_CHARS, "length")


async def test_a_busy_server_s_reason_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience, "FIRST_RETRY_SECONDS", 0.001)
    body = json.dumps({"error": {"code": 503, "message": "Loading model"}}).encode()
    async with server(body, status="503 Unavailable") as url:
        backend = LlamaCppBackend(url)
        with pytest.raises(BackendError, match="answers with status 503: Loading model"):
            await backend.complete(REQUEST)
        await backend.close()


async def test_errors_of_every_shape_are_quoted() -> None:
    for body in (b'{"error": "no"}', b'{"detail": "no"}', b'{"message": "no"}', b'"no"'):
        async with server(body, status="422 Unprocessable") as url:
            backend = LlamaCppBackend(url)
            with pytest.raises(BackendError, match="with status 422: no"):
                await backend.complete(REQUEST)
            await backend.close()


def test_lists_of_models_in_every_shape() -> None:
    for answer in (
        {"data": [{"id": None}, {"id": "m"}]},
        {"models": [{"name": "m"}]},
        [{"id": "m"}],
        {"data": ["m"]},
        {"models": [{"model": "m"}]},
    ):
        assert models_of(answer, "HOST") == ["m"]
    for answer, named in (({"data": None}, "no list of models"), ({"data": []}, "no model")):
        with pytest.raises(BackendError, match=named):
            models_of(answer, "HOST")


def test_counts_may_be_spelled_as_text() -> None:
    stats = stats_of("3", 9.0, "4", 1.0)
    assert stats is not None
    assert (stats.tokens, stats.prefill_tokens, stats.reused_tokens) == (3, 5, 4)
    for odd in (None, True, "x", [], float("nan"), "1e999"):
        assert stats_of(odd, 1, 0, 1.0) is None
        assert stats_of(1, 1, odd, 1.0) is not None


names = st.sampled_from(["choices", "text", "message", "content", "error", "usage", "delta", "id"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def read(reader: Callable[[Any, str], object], body: bytes) -> str:
    """The message of the error; "" for a completion."""
    try:
        reader(read_answer(body, "HOST", "/x"), "HOST")
    except BackendError as error:
        return str(error)
    return ""


@given(json_values, st.sampled_from(["", "data: ", "event: error\ndata: "]))
def test_any_json_is_a_completion_or_a_reason(answer: object, before: str) -> None:
    body = f"{before}{json.dumps(answer)}\n\n".encode()
    for reader in (items_of, infilled, models_of):
        problem = read(reader, body)
        assert problem == "" or ("HOST" in problem and "\n" not in problem)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_a_reason(body: bytes) -> None:
    assert read(items_of, body) == "" or "HOST" in read(items_of, body)
