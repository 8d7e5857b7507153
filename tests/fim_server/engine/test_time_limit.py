"""llama.cpp's `t_max_predict_ms`: by a clock that a scripted backend advances with each token."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from fim_model.requests import ChatRequest, Completion, CompletionItem, CompletionRequest

from fim_server.backends.base import TextListener
from fim_server.backends.in_process import InProcessBackend, TraceListener
from fim_server.engine import generation
from fim_server.engine.http_app import build_app
from fim_server.engine.prometheus import Metrics
from fim_server.engine.state import EngineState

TOKENS = ["a", "b", "\n", "c", "d", "\n", "e", "f", "g", "h"]
TOKEN_MS = 10.0


class Clock:
    """Stands for `time` in the module under test."""

    def __init__(self) -> None:
        self.ms = 0.0

    def perf_counter(self) -> float:
        return self.ms / 1000


class Writer(InProcessBackend):
    """Writes TOKENS, each 10 ms after the one before; the first after a prompt of 300 ms."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.written, self.cancelled = clock, 0, False

    async def stream(
        self,
        request: CompletionRequest | ChatRequest,
        on_text: TextListener | None,
        *,
        on_trace: TraceListener | None = None,
        latest_wins: bool = True,
    ) -> Completion:
        self.clock.ms += 300 - TOKEN_MS
        try:
            for count in range(1, len(TOKENS) + 1):
                self.clock.ms += TOKEN_MS
                self.written = count
                if on_text:
                    on_text("".join(TOKENS[:count]))
                for _ in range(3):  # who listens hears it before the next one
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        text, count = "".join(TOKENS), getattr(request, "alternatives", 1)
        items = [CompletionItem(f"{text}{number}", 1.0, "eom") for number in range(count)]
        return Completion(items)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    clock = Clock()
    monkeypatch.setattr(generation, "time", clock)
    return Writer(clock)


async def answers(writer: Writer, path: str, **body: Any) -> list[dict[str, Any]]:
    """The one answer, or the events of a stream."""
    state = EngineState(writer, "scripted", Metrics(writer), status="ok")
    transport = httpx2.ASGITransport(build_app(state))
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as client:
        answer = await client.post(path, json={"prompt": "x = ", **body})
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        found = answer.json()
        return found if isinstance(found, list) else [found]
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]


@pytest.mark.parametrize("path", ["/infill", "/completion"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("limit", "content", "written"),
    [
        (5, "ab", 3),  # over with the second token, but there is no line end before the third
        (35, "ab\ncd", 5),  # the fifth token is the first one after more than 35 ms
    ],
)
async def test_the_first_token_beyond_the_limit_is_the_last(
    writer: Writer, path: str, stream: bool, limit: int, content: str, written: int
) -> None:
    found = await answers(writer, path, t_max_predict_ms=limit, stream=stream)
    assert "".join(answer["content"] for answer in found).rstrip() == content
    assert found[-1]["stop_type"] == "limit"
    assert writer.cancelled
    assert written <= writer.written <= written + 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", [None, 0, -1, 95, 1e9])
async def test_a_text_within_the_limit_is_whole(
    writer: Writer, stream: bool, limit: float | None
) -> None:
    found = await answers(writer, "/infill", t_max_predict_ms=limit, stream=stream)
    assert "".join(answer["content"] for answer in found) == "".join(TOKENS) + "0"
    assert found[-1]["stop_type"] == "eos"
    assert not writer.cancelled


async def test_a_stop_string_comes_first(writer: Writer) -> None:
    [found] = await answers(writer, "/infill", t_max_predict_ms=35, stop=["c"])
    assert (found["content"], found["stop_type"]) == ("ab\n", "word")


async def test_the_suffix_that_a_limited_text_has_come_to_is_left_out(writer: Writer) -> None:
    suffix = "\ncd\nefgh_and_more\n"
    for stream in (False, True):
        found = await answers(
            writer, "/infill", t_max_predict_ms=65, stream=stream, input_suffix=suffix
        )
        assert "".join(answer["content"] for answer in found) == "ab"


async def test_several_answers_are_not_limited(writer: Writer) -> None:
    found = await answers(writer, "/infill", t_max_predict_ms=5, n_cmpl=2)
    assert [answer["content"][-1] for answer in found] == ["0", "1"]
