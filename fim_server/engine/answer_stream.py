"""The engine's answer in a conversation, read as it is written (`/v1/chat/completions`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fim_model.requests import ChatRequest

from fim_server.backends.base import BackendError, TextListener, Unfit
from fim_server.backends.connections import json_content

if TYPE_CHECKING:
    import httpx2

EVENT = "data: "
DONE = "[DONE]"


async def stream_answer(
    client: httpx2.AsyncClient, request: ChatRequest, on_text: TextListener, seconds: float
) -> str:
    """The answer; `on_text` receives it whenever it grew. Raises BackendError.

    seconds: timeout for each part of the answer. Cancelling ends the work in the engine.
    """
    import httpx2

    body = {
        "messages": [{"role": said.role, "content": said.content} for said in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": True,
    }
    text = ""
    try:
        path, content = "/v1/chat/completions", json_content(body)
        async with client.stream("POST", path, **content, timeout=seconds) as response:
            if response.status_code != 200:
                raise _problem(json.loads(await response.aread())["error"])
            async for line in response.aiter_lines():
                event = line.removeprefix(EVENT)
                if event in (line, DONE):
                    continue
                text += _piece(json.loads(event))
                on_text(text)
    except httpx2.TransportError as broken:
        raise BackendError("the engine stopped answering; ask again") from broken
    except (ValueError, KeyError, TypeError, IndexError) as unreadable:
        raise BackendError("the engine sent an unreadable answer") from unreadable
    return text


def _problem(error: Any) -> BackendError:
    kind = Unfit if error["code"] == 400 else BackendError
    return kind(str(error["message"]))


def _piece(event: Any) -> str:
    """The text of one event. Raises BackendError for an error that came in the middle."""
    if error := event.get("error"):
        raise _problem(error)
    delta = event["choices"][0]["delta"] if event["choices"] else {}
    return delta.get("content") or ""
