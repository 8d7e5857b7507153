"""The native request and answer as JSON, read strictly: what is wrong is named by its field.

Both ends use this module, so it imports nothing but the types it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from fim_model.copies import Copied
from fim_model.requests import MODES

from fim_server.backends.base import (
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    PastEdit,
    Rewrite,
    RewriteRequest,
    Snippet,
    TraceStep,
)

PROTOCOL = 6
"""Raised when an older front-end could not read a newer engine's answers, or the reverse."""

MOST_ALTERNATIVES = 10


class WireError(ValueError):
    """A message that is not of the agreed form; one line that names the field."""


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
    "seed": (int,),
    "session": (str,),
    "speculative": (bool,),
    "trace": (bool,),
    "snippets": (list,),
    "copies": (list,),
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
}
_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def request_to_json(request: CompletionRequest | RewriteRequest) -> dict[str, Any]:
    return asdict(request)


def request_from_json(body: object) -> CompletionRequest:
    """Raises WireError. `prefix` and `suffix` are required, everything else has its default."""
    values = _checked(body, _TYPES, ("prefix", "suffix"))
    snippets = (_texts(one, "snippets", ("path", "text")) for one in values.get("snippets", ()))
    request = CompletionRequest(
        **{
            **values,
            "snippets": tuple(Snippet(**one) for one in snippets),
            "copies": tuple(_copied(one) for one in values.get("copies", ())),
        }
    )
    if request.mode not in MODES:
        raise WireError(f"'mode' must be one of {', '.join(MODES)}, not {request.mode!r}")
    check_range("alternatives", request.alternatives, 1, MOST_ALTERNATIVES)
    return request


def rewrite_from_json(body: object) -> RewriteRequest:
    """Raises WireError. The three texts are required, everything else has its default."""
    values = _checked(body, _REWRITE_TYPES, ("prefix", "old", "suffix"))
    edits = (_texts(one, "edits", ("old", "new")) for one in values.get("edits", ()))
    drafts = tuple(values.get("drafts", ()))
    for draft in drafts:
        check_type("drafts", draft, str)
    lists = {"edits": tuple(PastEdit(**edit) for edit in edits), "drafts": drafts}
    return RewriteRequest(**{**values, **lists})


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
    for key, one in value.items():
        check_type(key, one, str)
    return value


def check_type(name: str, value: object, *allowed: type) -> None:
    """Raises WireError unless `value` is of one of the types; true is no number here."""
    stray_truth = isinstance(value, bool) and bool not in allowed
    if stray_truth or not isinstance(value, allowed):
        wanted = " or ".join("null" if kind is type(None) else _NAMES[kind] for kind in allowed)
        raise WireError(f"{name!r} must be {wanted}")


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raises WireError unless `least <= value <= most`."""
    if not least <= value <= most:
        raise WireError(f"{name!r} must be {least} to {most}, not {value}")


def completion_to_json(completion: Completion) -> dict[str, Any]:
    return asdict(completion)


def completion_from_json(body: object) -> Completion:
    """Raises WireError."""
    try:
        stats = body["stats"]  # type: ignore[index]
        items = [_from(CompletionItem, item) for item in body["items"]]  # type: ignore[index]
        cost = None if stats is None else _from(CompletionStats, stats)
        trace = [_from(TraceStep, step) for step in body["trace"]]  # type: ignore[index]
        return Completion(items, cost, body["show_above"], trace)  # type: ignore[index]
    except (KeyError, TypeError) as wrong:
        raise WireError(f"the answer is not a completion ({type(wrong).__name__})") from None


def rewrite_to_json(rewrite: Rewrite | None) -> dict[str, Any]:
    """Without a rewrite, another request took its place."""
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


def _from(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass from the fields it knows: a newer engine may say more."""
    return kind(**{field.name: values[field.name] for field in fields(kind)})
