"""The kinds of setting: a text, a number, a switch, a list. Each knows which values it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pathspec

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

MAX_TEXT_CHARS = 4096
"""Maximum length of a name, path or address; longer ones are mistakes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: the field of `Settings` that it sets, its allowed values, its description.

    `schema` is its type in JSON schema; with `needs_new_backend`, a change reloads the model. With
    `secret`, messages do not quote the value, which may hold a password.
    """

    field: str
    allowed: str
    accepts: Callable[[Any], bool]
    description: str
    schema: Mapping[str, Any]
    needs_new_backend: bool = False
    secret: bool = False

    def value(self, given: Any) -> Any:
        """An accepted value in the type of the field."""
        return tuple(given) if isinstance(given, list) else given


def one_of(field: str, values: tuple[str, ...], description: str, **more: Any) -> Setting:
    """A setting whose value is one of some words."""
    return Setting(
        field,
        "one of " + ", ".join(values),
        lambda value: isinstance(value, str) and value in values,
        description,
        {"type": "string", "enum": list(values)},
        **more,
    )


def text(
    field: str,
    allowed: str,
    description: str,
    is_valid: Callable[[str], bool] = lambda given: True,
    *,
    secret: bool = False,
) -> Setting:
    """A setting whose value is a non-empty string without control characters, null by default."""

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, str)
            and bool(value.strip())
            and not _UNPRINTABLE.search(value)
            and len(value) <= MAX_TEXT_CHARS
            and is_valid(value)
        )

    schema = {"type": ["string", "null"]}
    return Setting(
        field, allowed, accepts, description, schema, needs_new_backend=True, secret=secret
    )


def is_server_address(text: str) -> bool:
    """Whether a text is an http or https URL with a host, and a valid port if it names one."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # brackets that do not match, a port that is not a number or too large
        return False
    well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    return well_formed and " " not in text and not parts.query and not parts.fragment


def integer(field: str, low: int, high: int, description: str, **more: Any) -> Setting:
    """A setting whose value is a whole number from `low` to `high`."""

    def accepts(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    schema = {"type": "integer", "minimum": low, "maximum": high}
    allowed = f"a whole number from {low} to {high}"
    return Setting(field, allowed, accepts, description, schema, **more)


def probability(field: str, description: str) -> Setting:
    """A setting whose value is a number from 0 to 1, null by default."""

    def accepts(value: Any) -> bool:
        return value is None or (type(value) in (int, float) and 0 <= value <= 1)

    schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    return Setting(field, "a number from 0 to 1", accepts, description, schema)


def switch(field: str, description: str) -> Setting:
    """A setting that is true or false."""

    def accepts(value: Any) -> bool:
        return isinstance(value, bool)

    return Setting(field, "true or false", accepts, description, {"type": "boolean"})


def strings(field: str, what: str, description: str, is_valid: Callable[[str], bool]) -> Setting:
    """A setting whose value is a list of valid strings; `what` names them in messages."""

    def accepts(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(item, str) and is_valid(item) for item in value
        )

    schema = {"type": "array", "items": {"type": "string"}}
    return Setting(field, f"a list of {what}", accepts, description, schema)


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern of `.gitignore`."""
    try:
        pathspec.GitIgnoreSpec.from_lines([text])
    except (ValueError, re.error):  # `[z-a]` is an error of the regular expression
        return False
    return bool(text.strip())
