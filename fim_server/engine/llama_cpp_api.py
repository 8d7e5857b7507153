"""`POST /infill` of llama.cpp's server, as llama.vim and llama.vscode send it."""

from __future__ import annotations

from typing import Any

from fim_model.requests import Completion, CompletionRequest, Snippet
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.engine.bodies import read_json, refusal, unless_disconnected
from fim_server.engine.generation import Generation
from fim_server.engine.openai_api import MAX_TOKENS
from fim_server.engine.state import EngineState
from fim_server.engine.streams import Events, EventStream, Stops, error_event, read_stops
from fim_server.engine.wire import WireError, check_type, completion_request

DEFAULT_TEMPERATURE = 0.8
"""llama.cpp's default, for clients that set neither a temperature nor their samplers."""


async def infill(state: EngineState, http: Request) -> Response:
    """Answer an infill request, streaming or whole.

    A request with `n_predict` 0 only warms llama.cpp's cache; it is answered at once without
    running the model, because the extra context is prefilled with the next request.
    """
    body = await read_json(http)
    request, stops = read_request(body)
    fields = body.get("response_fields")
    generation = Generation(state, "llama_cpp", request, stops)
    if body.get("n_predict") == 0:
        return JSONResponse(selected(_answer(state, generation, Completion(), None), fields))
    if body.get("stream"):
        return EventStream(state, _events(state, generation, fields))
    completion = await unless_disconnected(http, generation.whole())
    cutter = Stops(stops)
    text = cutter.cut(completion.items[0].text if completion.items else "")
    text = before_dedent(text, body.get("n_indent") or 0)
    answer = {**_answer(state, generation, completion, cutter.found), "content": text}
    return JSONResponse(selected(answer, fields))


def read_request(body: object) -> tuple[CompletionRequest, list[str]]:
    """The completion request and the stop strings in a body. Raises WireError."""
    if not isinstance(body, dict):
        raise WireError("the body must be a JSON object")
    for name, kinds in _FIELDS.items():
        if body.get(name) is not None:
            check_type(name, body[name], *kinds)
    extra = body.get("input_extra") or []
    if not isinstance(extra, list) or not all(
        isinstance(chunk, dict) and isinstance(chunk.get("text"), str) for chunk in extra
    ):
        raise WireError("'input_extra' must be a list of objects with a 'text'")
    samplers = body.get("samplers")
    default = DEFAULT_TEMPERATURE if samplers is None or "temperature" in samplers else 0.0
    predict = body.get("n_predict") or -1
    request = completion_request(
        prefix=(body.get("input_prefix") or "") + (body.get("prompt") or ""),
        suffix=body.get("input_suffix") or "",
        max_tokens=min(predict, MAX_TOKENS) if predict > 0 else MAX_TOKENS,
        temperature=max(0.0, default if (given := body.get("temperature")) is None else given),
        seed=max(0, body.get("seed") or 0),
        snippets=tuple(Snippet(str(chunk.get("filename") or ""), chunk["text"]) for chunk in extra),
        session=f"llama.cpp/{body.get('id_slot') or 0}",
    )
    return request, read_stops(body.get("stop"))


_FIELDS: dict[str, tuple[type, ...]] = {
    "input_prefix": (str,),
    "input_suffix": (str,),
    "prompt": (str,),
    "n_predict": (int,),
    "n_indent": (int,),
    "temperature": (int, float),
    "seed": (int,),
    "id_slot": (int,),
    "samplers": (list,),
    "response_fields": (list,),
    "stream": (bool,),
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
        final = _answer(state, generation, generation.completion, generation.stop)
        yield selected({**final, "content": ""}, fields)
    except Exception as error:
        yield error_event(refusal(error))


def _answer(
    state: EngineState, generation: Generation, completion: Completion, stop: str | None
) -> dict[str, Any]:
    stats = completion.stats
    finish = completion.items[0].finish if completion.items else ""
    read, reused = (stats.prefill_tokens, stats.reused_tokens) if stats else (0, 0)
    written, ms = (stats.tokens, stats.ms) if stats else (0, 0.0)
    prompt_ms = min(generation.prompt_ms, ms)
    return {
        "content": completion.items[0].text if completion.items else "",
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
