"""`POST /v1/chat/completions`, as OpenAI's clients send it."""

from __future__ import annotations

from fim_model.requests import MAX_ANSWER_TOKENS, Completion
from starlette.requests import Request
from starlette.responses import Response

from fim_server.engine.bodies import HttpError, read_json
from fim_server.engine.fields import (
    as_object,
    conversation_session,
    given,
    messages,
    refuse,
    sampling,
)
from fim_server.engine.openai_answers import CHAT, Call, respond, streaming, whole
from fim_server.engine.state import EngineState
from fim_server.engine.streams import read_stops
from fim_server.engine.wire import MAX_ALTERNATIVES, chat_request, check_range

REFUSED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "audio": (),
    "modalities": (["text"],),
}
"""Unsupported fields that change the answer, with the values that are neutral."""

_LIMITS = "max_completion_tokens max_tokens n_predict"


async def chat_completions(state: EngineState, http: Request) -> Response:
    """Answer the conversation. A request for no tokens only warms llama.cpp's cache: it is
    answered at once."""
    body = as_object(await read_json(http))
    call = read_call(body)
    if given(body, _LIMITS, None, int) == 0:
        return whole(state, call, Completion())
    return await respond(state, http, call)


def read_call(body: object) -> Call:
    """The parsed body. `continue_final_message`, vLLM's, makes a last message of the assistant the
    beginning of the answer. Raises WireError, HttpError."""
    body = as_object(body)
    if body.get("tools") or body.get("functions"):
        raise HttpError(
            400, "'tools' are not supported: this engine answers with text alone; leave them out"
        )
    refuse(body, REFUSED)
    said, opening = messages(body), ""
    if given(body, "continue_final_message", False, bool):
        role, opening = said.pop()
        if role != "assistant":
            raise HttpError(400, "'continue_final_message' needs a last message of the assistant")
    count = given(body, "n", 1, int)
    check_range("n", count, 1, MAX_ALTERNATIVES)
    limit = given(body, _LIMITS, MAX_ANSWER_TOKENS, int)
    request = chat_request(
        messages=said,
        opening=opening,
        # 0 only warms a cache, and llama.cpp's -1 means no limit.
        max_tokens=min(limit, MAX_ANSWER_TOKENS) if limit > 0 else MAX_ANSWER_TOKENS,
        alternatives=count,
        mode=given(body, "mode", "auto", str),
        session=conversation_session(given(body, "user", "", str), said),
        **sampling(body, 1.0),
    )
    return Call(CHAT, request, read_stops(body.get("stop")), **streaming(body), echo="")
