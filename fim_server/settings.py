"""What a user can set: one frozen object, read from the client's `initializationOptions`.

A wrong value never stops the server: it is named in a message and the default stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fim_server.backends.base import MODES, Mode
from fim_server.backends.templates import TEMPLATES

BackendName = Literal["engine", "in_process", "openai", "llama_cpp"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)

LogLevel = Literal["error", "warning", "info", "debug"]
LOG_LEVELS: tuple[LogLevel, ...] = ("error", "warning", "info", "debug")


@dataclass(frozen=True, slots=True)
class Settings:
    """Window sizes are in characters. `model` None is the model that ships with the server,
    `threads` None leaves the number to torch; `alternatives` is for an explicit request.
    `speculate` prepares, while a suggestion is shown, what could follow it.
    `backend` "engine" shares one model among all editors; the engine leaves when it was not asked
    anything for `engine_idle_minutes`. "openai" and "llama_cpp" ask the server at `remote_url`;
    `remote_template` None leaves it to that server how its model is shown a hole."""

    model: str | None = None
    mode: Mode = "self_speculation"
    max_tokens: int = 64
    max_lines: int = 8
    alternatives: int = 3
    prefix_chars: int = 1200
    suffix_chars: int = 500
    threads: int | None = None
    log_level: LogLevel = "warning"
    backend: BackendName = "engine"
    remote_url: str | None = None
    remote_model: str | None = None
    remote_template: str | None = None
    speculate: bool = True
    engine_idle_minutes: int = 15

    @property
    def speculates(self) -> bool:
        """Whether to speculate: never on somebody else's server."""
        return self.speculate and self.backend in ("engine", "in_process")


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


def _text(field: str, allowed: str) -> _Rule:
    return _Rule(field, allowed, lambda value: isinstance(value, str) and bool(value.strip()))


_RULES = {
    "model": _text("model", "a folder or model name, as text that is not empty"),
    "mode": _one_of("mode", MODES),
    "maxTokens": _count("max_tokens", 1, 256),
    "maxLines": _count("max_lines", 1, 100),
    "alternatives": _count("alternatives", 1, 10),
    "prefixChars": _count("prefix_chars", 16, 1_000_000),
    "suffixChars": _count("suffix_chars", 0, 1_000_000),
    "threads": _count("threads", 1, 256),
    "logLevel": _one_of("log_level", LOG_LEVELS),
    "backend": _one_of("backend", BACKENDS),
    "remoteUrl": _text("remote_url", "the address of a server, as http://host:port/v1"),
    "remoteModel": _text("remote_model", "a model's name on that server"),
    "remoteTemplate": _one_of("remote_template", tuple(TEMPLATES)),
    "speculate": _Rule("speculate", "true or false", lambda value: isinstance(value, bool)),
    "engineIdleMinutes": _count("engine_idle_minutes", 1, 10_000),
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
