"""`POST /v1/completions` with `suffix`, as OpenAI's clients send it, and Mistral's
`/v1/fim/completions`, which Continue, minuet and Zed send to Codestral."""

from __future__ import annotations

from fim_model.requests import MAX_TOKENS, MODES
from starlette.requests import Request
from starlette.responses import Response

from fim_server.engine.bodies import HttpError, read_json
from fim_server.engine.fields import Body, as_object, given, refuse, sampling
from fim_server.engine.fim_markers import Hole, marked_hole
from fim_server.engine.openai_answers import FIM, TEXT, Call, Shape, respond, streaming
from fim_server.engine.state import EngineState
from fim_server.engine.streams import read_stops
from fim_server.engine.wire import (
    MAX_ALTERNATIVES,
    WireError,
    check_range,
    check_type,
    completion_request,
)

DEFAULT_MAX_TOKENS = 16
"""OpenAI's. Values above MAX_TOKENS are clamped: the answer then ends with "length"."""

REFUSED: dict[str, tuple[object, ...]] = {"logprobs": (0, False), "logit_bias": ({},)}
"""Unsupported fields that change the answer, with the values that are accepted because they are
neutral. Penalties only shape sampling and are ignored.
"""


async def completions(state: EngineState, http: Request) -> Response:
    return await respond(state, http, read_call(await read_json(http), TEXT))


async def fim_completions(state: EngineState, http: Request) -> Response:
    return await respond(state, http, read_call(await read_json(http), FIM))


def read_call(body: object, shape: Shape = TEXT) -> Call:
    """The parsed body; `mode`, the decoding mode, is our extension. Raises WireError, HttpError."""
    body = as_object(body)
    refuse(body, REFUSED)
    # Twinny sends Ollama's options to servers with OpenAI's API.
    body = {**given(body, "options", {}, dict), **body}
    count = given(body, "n", 1, int)
    check_range("n", count, 1, MAX_ALTERNATIVES)
    if given(body, "best_of", count, int) != count:
        raise HttpError(400, "'best_of' is not supported, except for the value of 'n'")
    if (mode := given(body, "mode", "auto", str)) not in MODES:
        raise WireError(f"'mode' must be one of {', '.join(MODES)}")
    hole = read_hole(body, given(body, "suffix", "", str))
    tokens = given(body, "max_tokens num_predict", DEFAULT_MAX_TOKENS, int)
    request = completion_request(
        prefix=hole.prefix,
        suffix=hole.suffix,
        path=hole.path,
        snippets=hole.snippets,
        max_tokens=min(tokens, MAX_TOKENS),
        alternatives=count,
        mode=mode,
        session=f"openai/{given(body, 'user', '', str)}",
        **sampling(body, 1.0),
    )
    echo = hole.prefix if given(body, "echo", False, bool) else ""
    return Call(shape, request, read_stops(body.get("stop")), **streaming(body), echo=echo)


def read_hole(body: Body, suffix: str) -> Hole:
    """The text around the hole: a prompt that has a model's FIM markers is taken apart."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    prompt = "" if prompt is None else prompt
    check_type("prompt", prompt, str)
    marked = None if suffix else marked_hole(prompt)
    return marked or Hole(prompt, suffix)
