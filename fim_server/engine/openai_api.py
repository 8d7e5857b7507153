"""`POST /v1/completions` with `suffix`, as OpenAI's clients send it, streaming included."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from fim_model.requests import MODES, Completion, CompletionRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.engine.bodies import HttpError, read_json, refusal, unless_disconnected
from fim_server.engine.generation import Generation
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Events, EventStream, Stops, error_event, read_stops
from fim_server.engine.wire import (
    MAX_ALTERNATIVES,
    WireError,
    check_range,
    check_type,
    completion_request,
)

DEFAULT_MAX_TOKENS = 16
MAX_TOKENS = 256
"""Larger values of `max_tokens` are clamped: the answer then ends with "length"."""

REFUSED: dict[str, tuple[object, ...]] = {
    "logprobs": (None, 0, False),
    "echo": (None, False),
    "logit_bias": (None, {}),
}
"""Unsupported fields that change the answer, with the values that are accepted because they are
neutral. Fields that only shape sampling (`top_p`, penalties, `best_of`) are ignored.
"""

_IDS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _CompletionCall:
    request: CompletionRequest
    stops: list[str]
    stream: bool
    usage: bool


async def completions(state: EngineState, http: Request) -> Response:
    call = read_request(await read_json(http))
    generation = Generation(state, "openai", call.request, call.stops)
    if call.stream:
        return EventStream(state, _events(state, call, generation))
    completion = await unless_disconnected(http, generation.whole())
    choices = [
        _choice(index, *_ended(item.text, item.finish, call.stops))
        for index, item in enumerate(completion.items)
    ]
    return JSONResponse({**_head(state), "choices": choices, "usage": _usage(completion)})


def read_request(body: object) -> _CompletionCall:
    """The parsed body; `mode`, the decoding mode, is our extension. Raises WireError, HttpError."""
    if not isinstance(body, dict):
        raise WireError("the body must be a JSON object")
    for name, neutral in REFUSED.items():
        if body.get(name) not in neutral:
            raise HttpError(400, f"{name!r} is not supported; leave it out")
    prompt = "" if body.get("prompt") is None else body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    check_type("prompt", prompt, str)
    values = {
        "suffix": _given(body, "suffix", "", str),
        "max_tokens": min(_given(body, "max_tokens", DEFAULT_MAX_TOKENS, int), MAX_TOKENS),
        "temperature": _given(body, "temperature", 1.0, int, float),
        "alternatives": _given(body, "n", 1, int),
        "seed": _given(body, "seed", 0, int),
        "mode": _given(body, "mode", "auto", str),
    }
    check_range("n", values["alternatives"], 1, MAX_ALTERNATIVES)
    if values["mode"] not in MODES:
        raise WireError(f"'mode' must be one of {', '.join(MODES)}")
    options = body.get("stream_options") or {}
    user = _given(body, "user", "", str)
    return _CompletionCall(
        completion_request(prefix=prompt, session=f"openai/{user}", **values),
        read_stops(body.get("stop")),
        stream=_given(body, "stream", False, bool),
        usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _given(body: dict[str, Any], name: str, default: Any, *types: type) -> Any:
    value = body.get(name)
    if value is None:
        return default
    check_type(name, value, *types)
    return value


async def _events(state: EngineState, call: _CompletionCall, generation: Generation) -> Events:
    head = _head(state)
    try:
        async for text in generation.pieces():
            yield {**head, "choices": [_choice(0, text, None)]}
        items = generation.completion.items
        stopped = generation.stop is not None or not items
        yield {**head, "choices": [_choice(0, "", "stop" if stopped else _reason(items[0].finish))]}
        for index, item in enumerate(items[1:], 1):
            ended = _ended(item.text, item.finish, call.stops)
            yield {**head, "choices": [_choice(index, *ended)]}
        if call.usage:
            yield {**head, "choices": [], "usage": _usage(generation.completion)}
        yield "[DONE]"
    except Exception as error:
        yield error_event(refusal(error))


def _ended(text: str, finish: str, stops: list[str]) -> tuple[str, str]:
    cutter = Stops(stops)
    return cutter.cut(text), "stop" if cutter.found else _reason(finish)


def _reason(finish: str) -> str:
    return "length" if finish == "length" else "stop"


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _head(state: EngineState) -> dict[str, Any]:
    return {
        "id": f"cmpl-{next(_IDS)}",
        "object": "text_completion",
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
