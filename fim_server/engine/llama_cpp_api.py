"""`POST /infill` and `/completion` of llama.cpp's server, as llama.vim, llama.vscode, Continue and
Twinny send them."""

from __future__ import annotations

from typing import Any

from fim_model.requests import MAX_TOKENS, Completion, CompletionItem, CompletionRequest, Snippet
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.engine.bodies import read_json, refusal, unless_disconnected
from fim_server.engine.fields import Body, as_object, given, sampling
from fim_server.engine.generation import Generation
from fim_server.engine.openai_api import read_hole
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Events, EventStream, Stops, error_event, read_stops
from fim_server.engine.wire import (
    MAX_ALTERNATIVES,
    WireError,
    check_range,
    completion_request,
)

DEFAULT_TEMPERATURE, DEFAULT_TOP_P = 0.8, 0.95
"""llama.cpp's defaults, for clients that set neither the values nor their samplers."""


async def infill(state: EngineState, http: Request) -> Response:
    """Answer an infill request, streaming or whole."""
    body = as_object(await read_json(http))
    return await _answered(state, http, body, read_infill(body))


async def completion(state: EngineState, http: Request) -> Response:
    """Answer a prompt, which may have a model's FIM markers."""
    body = as_object(await read_json(http))
    return await _answered(state, http, body, read_completion(body))


async def _answered(
    state: EngineState, http: Request, body: Body, request: CompletionRequest
) -> Response:
    """The answer of both endpoints.

    A request with `n_predict` 0 only warms llama.cpp's cache; it is answered at once without
    running the model, because the extra context is prefilled with the next request.
    """
    fields, stops = given(body, "response_fields", None, list), read_stops(body.get("stop"))
    indent = given(body, "n_indent", 0, int)
    generation = Generation(state, "llama_cpp", request, stops, _limit_ms(body, request))
    if body.get("n_predict") == 0:
        return JSONResponse(selected(_answer(state, generation, Completion(), None, ""), fields))
    if given(body, "stream", False, bool):
        return EventStream(state, _events(state, generation, fields))
    done = await unless_disconnected(http, generation.whole())
    answers = []
    for index, item in enumerate(done.items or [CompletionItem("", 0.0)]):
        cutter = Stops(stops)
        content = before_dedent(cutter.cut(item.text), indent)
        whole = _answer(state, generation, done, cutter.found, item.finish)
        answers.append(selected({**whole, "index": index, "content": content}, fields))
    # A list only for clients that ask for several.
    return JSONResponse(answers if request.alternatives > 1 else answers[0])


def _limit_ms(body: Body, request: CompletionRequest) -> float:
    """The time that writing may take, 0 without a limit. Several answers are not limited: what ends
    one would end them all. Raises WireError."""
    limit: float = given(body, "t_max_predict_ms", 0, int, float)
    return max(limit, 0) if request.alternatives == 1 else 0


def read_infill(body: Body) -> CompletionRequest:
    """The hole of an `/infill` body. Raises WireError."""
    extra = given(body, "input_extra", [], list)
    if not all(isinstance(chunk, dict) and isinstance(chunk.get("text"), str) for chunk in extra):
        raise WireError("'input_extra' must be a list of objects with a 'text'")
    prefix = given(body, "input_prefix", "", str) + given(body, "prompt", "", str)
    snippets = (Snippet(str(chunk.get("filename") or ""), chunk["text"]) for chunk in extra)
    return completion_request(
        prefix=prefix,
        suffix=given(body, "input_suffix", "", str),
        snippets=tuple(snippets),
        **_decoding(body),
    )


def read_completion(body: Body) -> CompletionRequest:
    """The hole of a `/completion` body. Raises WireError."""
    hole = read_hole(body, "")
    return completion_request(
        prefix=hole.prefix,
        suffix=hole.suffix,
        path=hole.path,
        snippets=hole.snippets,
        **_decoding(body),
    )


def _decoding(body: Body) -> dict[str, Any]:
    samplers = given(body, "samplers", None, list)
    warm = samplers is None or "temperature" in samplers
    share = samplers is None or "top_p" in samplers
    chosen = sampling(
        body, DEFAULT_TEMPERATURE if warm else 0.0, DEFAULT_TOP_P if share else 1.0, no_seed=-1
    )
    # llama.cpp takes a temperature below 0 for greedy, and a top_p of 0 for the likeliest token.
    chosen |= {"temperature": max(0.0, chosen["temperature"]), "top_p": chosen["top_p"] or 1e-9}
    predict, count = given(body, "n_predict max_tokens", -1, int), given(body, "n_cmpl", 1, int)
    check_range("n_cmpl", count, 1, MAX_ALTERNATIVES)
    return {
        **chosen,
        "max_tokens": min(predict, MAX_TOKENS) if predict > 0 else MAX_TOKENS,
        "alternatives": count,
        "session": f"llama.cpp/{given(body, 'id_slot', 0, int)}",
    }


def before_dedent(text: str, indent: int) -> str:
    """The text up to the first line, after line one, indented less than `indent` characters."""
    lines = text.split("\n")
    for number, line in enumerate(lines[1:], 1):
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            return "\n".join(lines[:number])
    return text


def selected(answer: dict[str, Any], fields: list[Any] | None) -> dict[str, Any]:
    """The `response_fields` of an answer; `a/b` selects a nested value and stays its key."""
    if fields is None:
        return answer
    chosen: dict[str, Any] = {}
    for field in fields:
        value: Any = answer
        for key in str(field).split("/"):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            chosen[str(field)] = value
    return chosen


async def _events(state: EngineState, generation: Generation, fields: list[Any] | None) -> Events:
    try:
        async for text in generation.pieces():
            yield {"content": text, "stop": False, "id_slot": 0, "index": 0}
        items = generation.completion.items
        finish = items[0].finish if items else ""
        final = _answer(state, generation, generation.completion, generation.stop, finish)
        yield selected(final, fields)
    except Exception as error:
        yield error_event(refusal(error))


def _answer(
    state: EngineState,
    generation: Generation,
    completion: Completion,
    stop: str | None,
    finish: str,
) -> dict[str, Any]:
    stats = completion.stats
    read, reused = (stats.prefill_tokens, stats.reused_tokens) if stats else (0, 0)
    written, ms = (stats.tokens, stats.ms) if stats else (0, 0.0)
    prompt_ms = min(generation.prompt_ms, ms)
    return {
        "content": "",
        "stop": True,
        "model": state.model,
        "id_slot": 0,
        "index": 0,
        "tokens_predicted": written,
        "tokens_evaluated": read + reused,
        "tokens_cached": reused,
        "truncated": False,
        "stop_type": "word" if stop else "limit" if finish == "length" else "eos",
        "stopping_word": stop or "",
        "timings": {
            **_timing("prompt", read, prompt_ms),
            **_timing("predicted", written, ms - prompt_ms),
        },
    }


def _timing(name: str, count: int, ms: float) -> dict[str, float]:
    return {
        f"{name}_n": count,
        f"{name}_ms": ms,
        f"{name}_per_token_ms": ms / count if count else 0.0,
        f"{name}_per_second": 1000 * count / ms if ms else 0.0,
    }
