"""Answers in the shapes of OpenAI's APIs, whole or streamed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fim_model.requests import ChatRequest, Completion, CompletionRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.engine.bodies import refusal, unless_disconnected
from fim_server.engine.fields import Body, given
from fim_server.engine.generation import Generation
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Events, EventStream, Stops, error_event

_IDS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """How an API writes its answers: a text, or a message that is streamed as deltas."""

    api: str
    identifier: str
    whole: str
    piece: str
    message: bool

    def choice(
        self, index: int, text: str, reason: str | None, *, streamed: bool
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": reason}
        if not self.message:
            return {**answer, "text": text}
        if streamed:
            return {**answer, "delta": {"content": text} if text else {}}
        return {**answer, "message": {"role": "assistant", "content": text}}


TEXT = Shape("openai", "cmpl", "text_completion", "text_completion", message=False)
CHAT = Shape("chat", "chatcmpl", "chat.completion", "chat.completion.chunk", message=True)
FIM = Shape("openai", "fim", "chat.completion", "chat.completion.chunk", message=True)
"""Mistral's `/v1/fim/completions`, which answers as its chat does."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request in one of these APIs. `echo` is put before the text of every choice."""

    shape: Shape
    request: CompletionRequest | ChatRequest
    stops: Sequence[str]
    stream: bool
    usage: bool
    echo: str = field(default="", kw_only=True)


def streaming(body: Body) -> dict[str, bool]:
    """Whether an answer is to be streamed, and with its usage. Raises WireError."""
    options = given(body, "stream_options", {}, dict)
    return {
        "stream": given(body, "stream", False, bool),
        "usage": bool(given(options, "include_usage", False, bool)),
    }


async def respond(state: EngineState, http: Request, call: Call) -> Response:
    """Run the model and answer."""
    generation = Generation(state, call.shape.api, call.request, call.stops)
    if call.stream:
        return EventStream(state, _events(state, call, generation))
    return whole(state, call, await unless_disconnected(http, generation.whole()))


def whole(state: EngineState, call: Call, completion: Completion) -> Response:
    """A completion as one JSON answer."""
    choices = []
    for index, item in enumerate(completion.items):
        text, reason = _ended(item.text, item.finish, call.stops)
        choices.append(call.shape.choice(index, call.echo + text, reason, streamed=False))
    # A choice is always there: clients read the first one without asking.
    choices = choices or [call.shape.choice(0, call.echo, "stop", streamed=False)]
    head = _head(state, call.shape, call.shape.whole)
    return JSONResponse({**head, "choices": choices, "usage": _usage(completion)})


async def _events(state: EngineState, call: Call, generation: Generation) -> Events:
    shape, head = call.shape, _head(state, call.shape, call.shape.piece)

    def event(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [shape.choice(index, text, reason, streamed=True)]}

    try:
        if shape.message:
            opening = event(0, "")
            opening["choices"][0]["delta"] = {"role": "assistant", "content": ""}
            yield opening
        if call.echo:
            yield event(0, call.echo)
        async for text in generation.pieces():
            yield event(0, text)
        items = generation.completion.items
        stopped = generation.stop is not None or not items
        yield event(0, "", "stop" if stopped else _reason(items[0].finish))
        for index, item in enumerate(items[1:], 1):
            text, reason = _ended(item.text, item.finish, call.stops)
            if shape.message:
                yield event(index, call.echo + text)
                text = ""
            yield event(index, text if shape.message else call.echo + text, reason)
        if call.usage:
            yield {**head, "choices": [], "usage": _usage(generation.completion)}
        yield "[DONE]"
    except Exception as error:
        yield error_event(refusal(error))


def _ended(text: str, finish: str, stops: Sequence[str]) -> tuple[str, str]:
    cutter = Stops(stops)
    return cutter.cut(text), "stop" if cutter.found else _reason(finish)


def _reason(finish: str) -> str:
    return "length" if finish == "length" else "stop"


def _head(state: EngineState, shape: Shape, kind: str) -> dict[str, Any]:
    return {
        "id": f"{shape.identifier}-{next(_IDS)}",
        "object": kind,
        "created": int(time.time()),
        "model": state.model,
    }


def _usage(completion: Completion) -> dict[str, Any]:
    stats = completion.stats
    if stats is None:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    prompt = stats.prefill_tokens + stats.reused_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": stats.tokens,
        "total_tokens": prompt + stats.tokens,
        "prompt_tokens_details": {"cached_tokens": stats.reused_tokens},
    }
