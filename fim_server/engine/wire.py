"""Requests and answers as JSON and back, read strictly: an error names the field.

Both ends of the socket use this module, so it imports nothing but the types that it converts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from fim_model.copies import Copied
from fim_model.requests import (
    AUTO,
    MODES,
    ChatMessage,
    ChatRequest,
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    Gate,
    InstructionRequest,
    PastEdit,
    Rewrite,
    RewriteRequest,
    Snippet,
    TraceStep,
)

PROTOCOL = 10
"""Incremented when an older front-end cannot read a newer engine's answers, or the reverse."""

MAX_ALTERNATIVES = 10


T = TypeVar("T", CompletionRequest, ChatRequest, RewriteRequest, InstructionRequest)


class WireError(ValueError):
    """A message that is not valid; one line that names the field."""


_TYPES: dict[str, tuple[type, ...]] = {
    "prefix": (str,),
    "suffix": (str,),
    "path": (str,),
    "language": (str,),
    "mode": (str,),
    "alternatives": (int,),
    "max_tokens": (int,),
    "max_lines": (int, type(None)),
    "temperature": (int, float),
    "top_p": (int, float),
    "seed": (int,),
    "session": (str,),
    "speculative": (bool,),
    "trace": (bool,),
    "snippets": (list,),
    "copies": (list,),
    "adapter": (str,),
}
_COPIED_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "matched": (int,),
    "behind": (int,),
    "distance": (int,),
    "places": (int,),
    "elsewhere": (bool,),
}
_REWRITE_TYPES: dict[str, tuple[type, ...]] = {
    "prefix": (str,),
    "old": (str,),
    "suffix": (str,),
    "edits": (list,),
    "path": (str,),
    "max_tokens": (int,),
    "session": (str,),
    "speculative": (bool,),
    "drafts": (list,),
    "adapter": (str,),
}
_INSTRUCTION_TYPES: dict[str, tuple[type, ...]] = {
    "instruction": (str,),
    "prefix": (str,),
    "old": (str,),
    "suffix": (str,),
    "path": (str,),
    "language": (str,),
    "max_tokens": (int,),
    "session": (str,),
    "speculative": (bool,),
}
_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def request_to_json(
    request: CompletionRequest | RewriteRequest | InstructionRequest,
) -> dict[str, Any]:
    return asdict(request)


def request_from_json(body: object) -> CompletionRequest:
    """Raises WireError. `prefix` and `suffix` are required, everything else has its default."""
    values = _checked(body, _TYPES, ("prefix", "suffix"))
    if (mode := values.get("mode", AUTO)) not in MODES:
        raise WireError(f"'mode' must be one of {', '.join(MODES)}, not {mode!r}")
    check_range("alternatives", values.get("alternatives", 1), 1, MAX_ALTERNATIVES)
    snippets = (_texts(item, "snippets", ("path", "text")) for item in values.get("snippets", ()))
    lists = {
        "snippets": tuple(Snippet(**snippet) for snippet in snippets),
        "copies": tuple(_copied(copy) for copy in values.get("copies", ())),
    }
    return completion_request(**{**values, **lists})


def completion_request(**values: Any) -> CompletionRequest:
    """A request from fields of the right types. Raises WireError for one out of range."""
    return _in_range(CompletionRequest, values)


def chat_request(**values: Any) -> ChatRequest:
    """The same for a conversation; `messages` are pairs of role and content."""
    try:
        messages = tuple(ChatMessage(*message) for message in values.pop("messages"))
    except ValueError as wrong:
        raise WireError(str(wrong)) from None
    return _in_range(ChatRequest, {**values, "messages": messages})


def instruction_from_json(body: object) -> InstructionRequest:
    """Raises WireError. Instruction and texts are required, everything else has its default."""
    required = ("instruction", "prefix", "old", "suffix")
    return _in_range(InstructionRequest, _checked(body, _INSTRUCTION_TYPES, required))


def rewrite_from_json(body: object) -> RewriteRequest:
    """Raises WireError. The three texts are required, everything else has its default."""
    values = _checked(body, _REWRITE_TYPES, ("prefix", "old", "suffix"))
    edits = (_texts(item, "edits", ("old", "new")) for item in values.get("edits", ()))
    drafts = tuple(values.get("drafts", ()))
    for draft in drafts:
        check_type("drafts", draft, str)
    lists = {"edits": tuple(PastEdit(**edit) for edit in edits), "drafts": drafts}
    return _in_range(RewriteRequest, {**values, **lists})


def _in_range(kind: type[T], values: Mapping[str, Any]) -> T:
    """A request of a kind. Raises WireError for a value that it does not allow."""
    try:
        return kind(**values)
    except ValueError as wrong:
        raise WireError(str(wrong)) from None


def _checked(
    body: object, types: Mapping[str, tuple[type, ...]], required: Sequence[str]
) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise WireError("the body must be a JSON object")
    if unknown := sorted(set(body) - set(types)):
        raise WireError(f"{unknown[0]!r} is unknown; known are {', '.join(types)}")
    for name in required:
        if name not in body:
            raise WireError(f"{name!r} is missing")
    for name, value in body.items():
        check_type(name, value, *types[name])
    return body


def _copied(body: object) -> Copied:
    check_type("copies", body, dict)
    values = _checked(body, _COPIED_TYPES, tuple(_COPIED_TYPES))
    for name in ("matched", "behind", "distance", "places"):
        check_range(name, values[name], 0, math.inf)
    return Copied(**values)


def _texts(value: object, name: str, keys: tuple[str, str]) -> Mapping[str, str]:
    """An element of the list `name`: an object of two texts."""
    if not isinstance(value, Mapping) or set(value) != set(keys):
        raise WireError(f"{name!r} must be objects with {keys[0]!r} and {keys[1]!r}")
    for key, text in value.items():
        check_type(key, text, str)
    return value


def check_type(name: str, value: object, *allowed: type) -> None:
    """Raises WireError unless `value` is of one of the types; a bool is not an int here."""
    unwanted_bool = isinstance(value, bool) and bool not in allowed
    if unwanted_bool or not isinstance(value, allowed):
        wanted = " or ".join("null" if kind is type(None) else _NAMES[kind] for kind in allowed)
        raise WireError(f"{name!r} must be {wanted}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises WireError unless `least <= value <= most`."""
    if not low <= value <= high:
        raise WireError(f"{name!r} must be {low} to {high}, not {value}")


def completion_to_json(completion: Completion) -> dict[str, Any]:
    items = [item_to_json(item) for item in completion.items]
    return {**asdict(completion), "items": items}


def item_to_json(item: CompletionItem) -> dict[str, Any]:
    """An item as every API shows it: without its log-probabilities."""
    return {"text": item.text, "confidence": item.confidence, "finish": item.finish}


def completion_from_json(body: object) -> Completion:
    """Raises WireError."""
    try:
        stats = body["stats"]  # type: ignore[index]
        items = [
            CompletionItem(item["text"], item["confidence"], item["finish"])
            for item in body["items"]  # type: ignore[index]
        ]
        cost = None if stats is None else _from(CompletionStats, stats)
        trace = [_from(TraceStep, step) for step in body["trace"]]  # type: ignore[index]
        raw = body["gate"]  # type: ignore[index]
        gate = None if raw is None else _from(Gate, raw)
        show_above, adapter = body["show_above"], body["adapter"]  # type: ignore[index]
        return Completion(items, cost, show_above, trace, gate, adapter)
    except (KeyError, TypeError) as wrong:
        raise WireError(f"the answer is not a completion ({type(wrong).__name__})") from None


def rewrite_to_json(rewrite: Rewrite | None) -> dict[str, Any]:
    """The rewrite as `{"rewrite": …}`: null if another request took its place."""
    return {"rewrite": None if rewrite is None else asdict(rewrite)}


def rewritten_from_json(body: object) -> Rewrite | None:
    """Raises WireError."""
    try:
        rewrite = body["rewrite"]  # type: ignore[index]
        if rewrite is None:
            return None
        values = {**rewrite, "draft_gains": tuple(rewrite["draft_gains"])}
        decoded: Rewrite = _from(Rewrite, values)
        return decoded
    except (KeyError, TypeError) as wrong:
        raise WireError(f"the answer is not a rewrite ({type(wrong).__name__})") from None


def refusal_from_json(body: object) -> str | None:
    """The answer of `/v1/instruct/check`. Raises WireError."""
    refusal = body.get("refusal", 0) if isinstance(body, Mapping) else 0
    if refusal is None or isinstance(refusal, str):
        return refusal
    raise WireError("the answer does not say whether the model follows instructions")


def _from(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass from its own fields; others, which a newer engine may send, are ignored."""
    return kind(**{field.name: values[field.name] for field in fields(kind)})
