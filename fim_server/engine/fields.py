"""Fields of foreign requests, where null means absent and unknown fields are ignored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from fim_server.engine.bodies import HttpError
from fim_server.engine.wire import WireError, check_type

Body = Mapping[str, Any]


def as_object(body: object) -> Body:
    """Raises WireError unless the body is a JSON object."""
    if not isinstance(body, dict):
        raise WireError("the body must be a JSON object")
    return body


def given(body: Body, names: str, default: Any, *types: type) -> Any:
    """The first of the fields in `names` (separated by spaces) that is neither absent nor null.

    A whole number may be written as 2.0, as by clients whose language has no integers. Raises
    WireError for a value of another type.
    """
    for name in names.split():
        if (value := body.get(name)) is not None:
            if isinstance(value, float) and value.is_integer() and float not in types:
                value = int(value)
            check_type(name, value, *types)
            return value
    return default


def refuse(body: Body, neutral: Mapping[str, tuple[object, ...]]) -> None:
    """Raise HttpError for a field that changes the answer and is not supported.

    `neutral` has the values that change nothing, besides null.
    """
    for name, values in neutral.items():
        value = body.get(name)
        if value is not None and value not in values:
            raise HttpError(400, f"{name!r} is not supported; leave it out")


def sampling(
    body: Body, temperature: float, top_p: float = 1.0, *, no_seed: int | None = None
) -> dict[str, Any]:
    """temperature, top_p and seed of a request, with an API's defaults for the first two.

    Without a seed, or with the one that an API takes for none, every request has another one.
    """
    chosen = given(body, "temperature", temperature, int, float)
    share = given(body, "top_p", top_p, int, float)
    seed = given(body, "seed random_seed", no_seed, int)
    drawn = secrets.randbelow(2**31) if chosen else 0
    return {
        "temperature": chosen,
        "top_p": 1.0 if share >= 1 else share,
        "seed": drawn if seed == no_seed else seed,
    }


def messages(body: Body) -> list[tuple[str, str]]:
    """Role and text of each message. Raises WireError and HttpError."""
    found = body.get("messages")
    if not isinstance(found, list) or not found:
        raise WireError("'messages' must be a list of at least one message")
    return [_message(number, message) for number, message in enumerate(found)]


def conversation_session(user: str, said: list[tuple[str, str]]) -> str:
    """A session for each conversation of a user: what it begins with stays the same."""
    beginning = hashlib.sha256(repr(said[:2]).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"chat/{user}/{beginning}"


def _message(number: int, message: object) -> tuple[str, str]:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise WireError(f"'{where}' must be an object")
    role = message.get("role")
    # The newer name of the system role.
    role = "system" if role == "developer" else role
    if role in ("tool", "function") or message.get("tool_calls"):
        raise HttpError(400, f"'{where}' is about tools, which are not supported; leave it out")
    check_type(f"{where}.role", role, str)
    return str(role), _content(f"{where}.content", message.get("content"))


def _content(where: str, content: object) -> str:
    """A message's text: a text, or a list of text parts."""
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text":
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise HttpError(400, f"{where!r} has a part of type {kind!r}; only text is read")
            check_type(f"{where}.text", part.get("text"), str)
        return "".join(part["text"] for part in content)
    check_type(where, content, str)
    return str(content)
