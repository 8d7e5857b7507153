"""Headers as clients write them, against the real server process and the reader alone."""

from __future__ import annotations

import io
import json

import pytest
from raw_client import INLINE, RawClient, inline_params, raw_client

from fim_server.lsp.framing import MAX_BODY_BYTES, HeaderReader

URI = "file:///project/a.py"


def messages(stream: bytes) -> list[bytes]:
    """The bodies that pygls's loop would read."""
    reader = HeaderReader(io.BytesIO(stream))
    bodies = []
    while header := reader.readline():
        assert header.startswith(b"Content-Length: "), header
        assert reader.readline() == b"\r\n"
        bodies.append(reader.read(int(header.split()[1])))
    return bodies


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 2\r\n\r\n",
        b"content-length: 2\r\n\r\n",
        b"CONTENT-LENGTH:2\r\n\r\n",
        b"content-length:     2   \r\n\r\n",
        b"Content-Length:\t2\r\n\r\n",
        b"Content-Length : 2\r\n\r\n",
        b"Content-Length: 0002\r\n\r\n",
        b"Content-Length: 2\n\n",
        b"\r\n\r\nContent-Length: 2\r\n\r\n",
        b"\xef\xbb\xbfContent-Length: 2\r\n\r\n",
        b"X-Content-Length: 99\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: 2\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n",
        b'content-type: application/vscode-jsonrpc;charset="UTF8"\r\ncontent-length: 2\r\n\r\n',
        b"Content-Type: application/vscode-jsonrpc\r\nX-Trace: 1\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_headers_with_one_meaning(header: bytes) -> None:
    assert messages(header + b"{}" + header + b"[]") == [b"{}", b"[]"]


GOOD = b"Content-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "unusable",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: two\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length:\r\n\r\n{}",
        b"Content-Length: %d\r\n\r\n{}" % (MAX_BODY_BYTES + 1),
        b"Content-Length: 99999999999999999999999999\r\n\r\n{}",
        b"Content-Type: application/vscode-jsonrpc\r\n\r\n{}",
        b'{"jsonrpc": "2.0"}\n',
        b'{"jsonrpc": "2.0"}',
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"x" * 200_000,
        b"\0\0\r\n\r\n",
    ],
)
def test_after_an_unusable_header_the_next_message_is_read(unusable: bytes) -> None:
    assert messages(unusable + GOOD) == [b"{}"]


def test_a_length_in_characters_costs_one_message_only() -> None:
    body = '{"é": "é"}'.encode()
    short = b"Content-Length: %d\r\n\r\n" % (len(body) - 2) + body
    assert messages(short + GOOD) == [body[:-2], b"{}"]


def test_a_body_in_another_charset_is_one_that_cannot_be_read() -> None:
    body = "{}".encode("utf-16")
    header = b"Content-Length: %d\r\nContent-Type: x; charset=utf-16\r\n\r\n" % len(body)
    [first, second] = messages(header + body + GOOD)
    with pytest.raises(ValueError, match="utf-8"):
        json.loads(first)
    assert second == b"{}"


@pytest.mark.parametrize("stream", [b"", b"Content-Le", b"Content-Length: 5\r\n", b"\r\n"])
def test_the_end_of_the_stream(stream: bytes) -> None:
    assert messages(stream) == []


def send(client: RawClient, header: bytes, number: str) -> None:
    params = inline_params(URI, 0, 6)
    body = json.dumps({"jsonrpc": "2.0", "id": number, "method": INLINE, "params": params})
    assert client.process.stdin is not None
    client.process.stdin.write(header % len(body) + body.encode())


async def test_the_server_answers_whatever_form_the_header_has() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.open(URI, "#say x")
        headers = [b"content-length:    %d\r\n\r\n", b"Content-Length: %d\n\n"]
        for index, header in enumerate(headers):
            send(client, header, f"a{index}")
            assert (await client.answer(f"a{index}"))["result"]["items"]
        send(client, b"Content-Length: oops%d\r\n\r\n", "lost")
        send(client, b"Content-Length: %d\r\n\r\n", "next")
        assert (await client.answer("next"))["result"]["items"]
        assert "lost" not in client.answers
        send(client, b"Content-Length: %d\r\nContent-Type: x; charset=latin1\r\n\r\n", "latin")
        assert (await client.answer(None))["error"]["code"] == -32700
        assert await client.leave() == 0


async def test_a_number_of_too_many_digits_is_refused_as_json() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.send_bodies(b'{"jsonrpc": "2.0", "method": "x", "params": %s}' % (b"9" * 5000))
        assert (await client.answer(None))["error"]["code"] == -32700


async def test_a_request_without_jsonrpc_is_answered() -> None:
    async with raw_client() as client:
        await client.initialize()
        client.send_bodies(b'{"id": 77, "method": "shutdown"}')
        assert (await client.answer(77))["error"]["code"] == -32600
