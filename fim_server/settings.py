"""What a user can set: one frozen object, read from the client's `initializationOptions`.

A wrong value never stops the server: it is named in a message and the default stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fim_server.backends.base import MODES, Mode

LogLevel = Literal["error", "warning", "info", "debug"]
LOG_LEVELS: tuple[LogLevel, ...] = ("error", "warning", "info", "debug")


@dataclass(frozen=True, slots=True)
class Settings:
    """Window sizes are in characters. `model` None is the model that ships with the server,
    `threads` None leaves the number to torch; `alternatives` is for an explicit request."""

    model: str | None = None
    mode: Mode = "self_speculation"
    max_tokens: int = 64
    max_lines: int = 8
    alternatives: int = 3
    prefix_chars: int = 1200
    suffix_chars: int = 500
    threads: int | None = None
    log_level: LogLevel = "warning"


@dataclass(frozen=True, slots=True)
class _Rule:
    field: str
    allowed: str
    accepts: Callable[[Any], bool]


def _one_of(field: str, values: tuple[str, ...]) -> _Rule:
    return _Rule(field, "one of " + ", ".join(values), lambda value: value in values)


def _count(field: str, least: int, most: int) -> _Rule:
    def accepts(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    return _Rule(field, f"a whole number from {least} to {most}", accepts)


_RULES = {
    "model": _Rule(
        "model",
        "a folder or model name, as text that is not empty",
        lambda value: isinstance(value, str) and bool(value.strip()),
    ),
    "mode": _one_of("mode", MODES),
    "maxTokens": _count("max_tokens", 1, 256),
    "maxLines": _count("max_lines", 1, 100),
    "alternatives": _count("alternatives", 1, 10),
    "prefixChars": _count("prefix_chars", 16, 1_000_000),
    "suffixChars": _count("suffix_chars", 0, 1_000_000),
    "threads": _count("threads", 1, 256),
    "logLevel": _one_of("log_level", LOG_LEVELS),
}


def read_settings(options: object, base: Settings) -> tuple[Settings, list[str]]:
    """`base` with what the client set, and one message for each thing that is not used.

    `options` is the client's JSON; null, for the whole or for one key, leaves the default.
    """
    if options is None:
        return base, []
    if not isinstance(options, Mapping):
        return base, [
            f"initializationOptions: {_shown(options)} is not used; an object is expected"
        ]
    problems = []
    accepted: dict[str, Any] = {}
    for key, value in options.items():
        rule = _RULES.get(key)
        if rule is None:
            problems.append(
                f"setting {_shown(key)} is unknown; the settings are: {', '.join(_RULES)}"
            )
        elif value is not None:
            if rule.accepts(value):
                accepted[rule.field] = value
            else:
                kept = getattr(base, rule.field)
                problems.append(
                    f"setting {key}: {_shown(value)} is not used, {rule.allowed} is expected; "
                    f"{'the default' if kept is None else repr(kept)} stays"
                )
    return replace(base, **accepted), problems


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
