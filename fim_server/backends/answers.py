"""Reads the answers of servers that are not ours: a completion, or an error that names the reason.

Servers and the proxies before them leave fields out, send null, numbers as text, an event stream
that nobody asked for, or a web page. Nothing here raises anything but BackendError.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fim_model.requests import CompletionItem, CompletionStats, Finish

from fim_server.backends.base import BackendError

UNKNOWN_CONFIDENCE = 1.0
"""These servers are not asked for probabilities, so their items always pass the gate."""

MAX_MESSAGE_CHARS = 200
MAX_TEXT_CHARS = 20_000
"""A longer text is cut: its server ignores `max_tokens`, and no editor bears it as ghost text."""

_DATA = ("data", "error")
_LINE_END = re.compile(r"\r\n?")
_JOINED_EVENTS = re.compile(r"^(data: ?(?:\{.*\}|\[DONE\]))\n(?=data:|event:|:)", re.MULTILINE)
"""An event that ends without a blank line: its data is whole on one line."""


def read_answer(content: bytes, name: str, path: str) -> Any:
    """The JSON of a body; the events of a stream joined to one answer. `name` is the server's."""
    text = content.decode(json.detect_encoding(content), "replace").strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if events := list(_events(text)):
        return _joined(events, name)
    found = "nothing" if not text else "a web page" if text.startswith("<") else "other text"
    raise BackendError(
        f"{name} does not answer {path} with JSON but with {found}; check remoteUrl, and the proxy "
        "in between if there is one"
    )


def _events(text: str) -> Iterator[tuple[str, Any]]:
    """The name and the data of each server-sent event; comments and keep-alives have none.

    Some servers send errors in a field `error` instead of an event of that name, no blank line
    between events, or a JSON value on each line instead of events.
    """
    text = _LINE_END.sub("\n", text)
    if text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            yield from [("", json.loads(line)) for line in text.split("\n") if line.strip()]
            return
    for block in _JOINED_EVENTS.sub(r"\1\n\n", text).split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n")]
        named = [value.strip() for field, _, value in fields if field == "event"]
        named += [field for field, _, _ in fields if field == "error"]
        data = [value.strip() for field, colon, value in fields if field in _DATA and colon]
        if not data or data == ["[DONE]"]:
            continue
        try:
            yield (named or [""])[-1], json.loads("\n".join(data))
        except (ValueError, RecursionError):
            yield (named or [""])[-1], "\n".join(data)


def _joined(events: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    """One answer with the texts of a stream, in the shape of both APIs."""
    answer: dict[str, Any] = {}
    texts: dict[int, list[str]] = {}
    reasons: dict[int, Any] = {}
    for event, data in events:
        if event == "error":
            raise BackendError(f"{name} answers with an error{message_of(data)}")
        check_error(data, name)
        if not isinstance(data, Mapping):
            continue
        answer |= {key: value for key, value in data.items() if value is not None}
        choices = data.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else [data]):
            if isinstance(choice, Mapping):
                index = number(choice.get("index"))
                index = place if index is None else index
                if (text := _text_in(choice)) is not None:
                    texts.setdefault(index, []).append(text)
                reasons[index] = choice.get("finish_reason") or reasons.get(index)
    if not texts:
        raise BackendError(f"{name} answers with a stream that has no text")
    joined = {index: "".join(parts) for index, parts in sorted(texts.items())}
    choices = [
        {"text": text, "finish_reason": reasons.get(index)} for index, text in joined.items()
    ]
    return answer | {"choices": choices, "content": choices[0]["text"]}


_MESSAGES = ("error", "errors", "message", "msg", "detail", "error_description", "title")


def check_error(answer: Any, name: str) -> None:
    """Raises BackendError if an answer, whatever its status, is an error."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if error:
        raise BackendError(f"{name} answers with an error{message_of(answer)}")


def message_of(answer: Any) -> str:
    """The first line of an error in any known shape, as the end of a message; "" if it has none."""
    if isinstance(answer, list):
        return next(filter(None, map(message_of, answer)), "")
    if isinstance(answer, Mapping):
        for key in _MESSAGES:
            if found := message_of(answer.get(key)):
                return found
        return ""
    lines = answer.strip().splitlines() if isinstance(answer, str) else []
    return f": {lines[0][:MAX_MESSAGE_CHARS]}" if lines else ""


def _told(answer: Any) -> str:
    """What an answer without its fields tells instead, as the end of a message."""
    return message_of(answer) if isinstance(answer, Mapping) else ""


def items_of(answer: Any, name: str) -> list[CompletionItem]:
    """The items of an OpenAI-shaped completion. Raises BackendError if no choice has a text."""
    check_error(answer, name)
    if not isinstance(answer, Mapping) or answer.get("choices") is None:
        raise BackendError(f"{name}: the answer lacks the field choices{_told(answer)}")
    choices = answer["choices"]
    if not isinstance(choices, list) or not choices:
        raise BackendError(f"{name}: the answer has no choices")
    items, problem = [], ""
    for choice in choices:
        reason = choice.get("finish_reason") if isinstance(choice, Mapping) else None
        text = _text_in(choice) if isinstance(choice, Mapping) else None
        if text is None:
            problem = problem or f" (finish_reason {reason})" * isinstance(reason, str)
        else:
            finish: Finish = "length" if reason == "length" or _is_long(text) else "eom"
            items.append(CompletionItem(text[:MAX_TEXT_CHARS], UNKNOWN_CONFIDENCE, finish))
    if not items:
        raise BackendError(f"{name}: the choices of the answer have no text{problem}")
    return items


def infilled(answer: Any, name: str) -> CompletionItem:
    """The item of an answer of llama.cpp's `/infill`. Raises BackendError if it has no text."""
    check_error(answer, name)
    if not isinstance(answer, Mapping) or "content" not in answer:
        raise BackendError(f"{name}: the answer lacks the field content{_told(answer)}")
    text = _text_in(answer)
    if text is None:
        raise BackendError(f"{name}: the content of the answer is no text")
    limited = answer.get("stop_type") == "limit" or answer.get("stopped_limit") is True
    finish: Finish = "length" if limited or _is_long(text) else "eom"
    return CompletionItem(text[:MAX_TEXT_CHARS], UNKNOWN_CONFIDENCE, finish)


def _is_long(text: str) -> bool:
    return len(text) > MAX_TEXT_CHARS


def models_of(answer: Any, name: str) -> list[str]:
    """The models that a server lists, as objects or as names. Raises BackendError without any."""
    check_error(answer, name)
    listed = answer
    if isinstance(answer, Mapping):
        listed = answer.get("data", answer.get("models"))
    if not isinstance(listed, list):
        raise BackendError(f"{name} has no list of models; set remoteModel{_told(answer)}")
    named = [
        model.get("id") or model.get("name") or model.get("model")
        if isinstance(model, Mapping)
        else model
        for model in listed
    ]
    models = [model for model in named if isinstance(model, str) and model]
    if not models:
        raise BackendError(f"{name} serves no model")
    return models


def stats_of(written: Any, read: Any, reused: Any, ms: float) -> CompletionStats | None:
    """The token counts that a server reports, `read` with those `reused`; None without them."""
    tokens, prompt, cached = number(written), number(read), number(reused) or 0
    if tokens is None or prompt is None:
        return None
    return CompletionStats(
        mode="remote",
        forwards=0,
        tokens=tokens,
        tokens_per_forward=0.0,
        prefill_tokens=max(0, prompt - cached),
        reused_tokens=cached,
        ms=ms,
    )


def field(answer: Any, *names: str) -> Any:
    """A nested value; None where a part of the path is missing."""
    for name in names:
        answer = answer.get(name) if isinstance(answer, Mapping) else None
    return answer


def number(value: Any) -> int | None:
    """A count that may be spelled as text or as a fraction; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        counted = float(value)
    except (ValueError, OverflowError):
        return None
    return max(0, int(counted)) if math.isfinite(counted) else None


def _text_in(choice: Mapping[str, Any]) -> str | None:
    """The text of a completion, a chat message, a piece of either, or an infill."""
    for holder in (choice, choice.get("message"), choice.get("delta")):
        for key in ("text", "content"):
            value = field(holder, key)
            if isinstance(value, str):
                return value
            if isinstance(value, list):
                parts = [field(part, "text") or part for part in value]
                return "".join(part for part in parts if isinstance(part, str))
    return None
