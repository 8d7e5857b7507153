"""`POST /tokenize`, `/detokenize` and `/apply-template` of llama.cpp's server, by which clients
count a prompt's tokens."""

from __future__ import annotations

from typing import Any

from fim_model.errors import RequestError
from fim_model.infiller import Infiller
from fim_model.prompt.chat_prompt import no_template
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import ChatMessage
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.engine.bodies import HttpError, read_json
from fim_server.engine.fields import Body, as_object, given, messages, refuse
from fim_server.engine.native_api import check_loaded
from fim_server.engine.state import EngineState
from fim_server.engine.wire import WireError, check_type

NO_CHARACTER = "\uffff"
"""A noncharacter of Unicode, which no text holds."""

REFUSED: dict[str, tuple[object, ...]] = {"tools": ([],), "add_generation_prompt": (True,)}
"""Fields of `/apply-template` that change the prompt, with the values that are neutral."""


async def tokenize(state: EngineState, http: Request) -> Response:
    """The token ids of a text: with `with_pieces` each with its text, or its bytes."""
    body = as_object(await read_json(http))
    return JSONResponse({"tokens": await _elsewhere(state, _tokens, body)})


async def detokenize(state: EngineState, http: Request) -> Response:
    body = as_object(await read_json(http))
    return JSONResponse({"content": await _elsewhere(state, _text, body)})


async def apply_template(state: EngineState, http: Request) -> Response:
    """The prompt that a conversation becomes; tokenised with `parse_special`, it is what the model
    reads."""
    body = as_object(await read_json(http))
    return JSONResponse({"prompt": await _elsewhere(state, _rendered, body)})


async def _elsewhere(state: EngineState, work: Any, body: Body) -> Any:
    """The result of `work` from another thread: a long text must not hold up other requests."""
    check_loaded(state)
    try:
        return await run_in_threadpool(work, state.backend.infiller, body)
    except RequestError as unfit:
        raise HttpError(400, str(unfit)) from None


def _tokens(infiller: Infiller, body: Body) -> list[Any]:
    tokenizer = infiller.tokenizer
    if body.get("content") is None:
        raise WireError("'content' is missing")
    content = body["content"]
    check_type("content", content, str)
    if given(body, "parse_special", True, bool):
        ids = tokenizer.encode_marked(content, NO_CHARACTER)
    else:
        ids = tokenizer.encode(content)
    if given(body, "add_special", False, bool):
        ids = [*tokenizer.begins, *ids]
    if not given(body, "with_pieces", False, bool):
        return ids
    return [{"id": token_id, "piece": _piece(tokenizer, token_id)} for token_id in ids]


def _piece(tokenizer: CodeTokenizer, token_id: int) -> str | list[int]:
    """A token's text; its bytes where they are no text by themselves."""
    spelled = tokenizer.token_bytes(token_id)
    if not spelled:
        return tokenizer.token_name(token_id) or ""
    try:
        return spelled.decode("utf-8")
    except UnicodeDecodeError:
        return list(spelled)


def _text(infiller: Infiller, body: Body) -> str:
    """The text of ids, special tokens by name, as llama.cpp writes it."""
    tokenizer, ids = infiller.tokenizer, body.get("tokens")
    if not isinstance(ids, list):
        raise WireError("'tokens' must be a list of token ids")
    spelled = bytearray()
    for token_id in ids:
        check_type("tokens", token_id, int)
        if not 0 <= token_id < tokenizer.vocab_size:
            raise WireError(
                f"'tokens' must be ids from 0 to {tokenizer.vocab_size - 1}, not {token_id}"
            )
        name = tokenizer.token_name(token_id) or ""
        spelled += tokenizer.token_bytes(token_id) or name.encode()
    return spelled.decode("utf-8", "replace")


def _rendered(infiller: Infiller, body: Body) -> str:
    refuse(body, REFUSED)
    if infiller.chat is None:
        raise no_template(infiller.name)
    try:
        said = [ChatMessage(*message) for message in messages(body)]
    except ValueError as unknown:
        raise WireError(str(unknown)) from None
    return infiller.chat.render(said)
