"""What a user can set: one frozen object, stated once, read from any JSON or TOML mapping.

A wrong value never stops anything: it is named in a message and what was set before stays.
Where settings come from, and which source wins, is in `settings/sources.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import pathspec
from fim_model.requests import MODES, Mode

from fim_server.log import LOG_LEVELS, LogLevel

BackendName = Literal["engine", "in_process", "openai", "llama_cpp"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)


Multiline = Literal["auto", "always", "never"]
MULTILINE: tuple[Multiline, ...] = ("auto", "always", "never")

RemoteTemplate = Literal[
    "fim-server", "qwen", "starcoder", "codellama", "deepseek", "codestral", "codegemma"
]
REMOTE_TEMPLATES: tuple[RemoteTemplate, ...] = get_args(RemoteTemplate)
"""What each is stands in `backends/templates.py`."""

CopiesFrom = Literal["project", "file"]
COPIES_FROM: tuple[CopiesFrom, ...] = ("project", "file")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. What each one means is said in RULES, for people and for code."""

    model: str | None = None
    mode: Mode = "auto"
    max_tokens: int = 64
    max_lines: int = 8
    multiline: Multiline = "auto"
    alternatives: int = 3
    min_confidence: float | None = None
    prefix_chars: int = 1200
    suffix_chars: int = 500
    next_edits: bool = True
    min_edit_gain: float = 8.0
    copies_from: CopiesFrom = "project"
    snippets: int = 0
    snippet_chars: int = 600
    disabled_languages: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = True
    workspace_trusted: bool = True
    statistics: bool = True
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
class Rule:
    """One setting: the field it sets, the values it takes, and what it means.

    `schema` is its type in JSON schema; `needs_new_backend` says that a change of it loads the
    model anew.
    """

    field: str
    allowed: str
    accepts: Callable[[Any], bool]
    meaning: str
    schema: Mapping[str, Any]
    needs_new_backend: bool = False

    def value(self, given: Any) -> Any:
        """An accepted value as the field keeps it."""
        return tuple(given) if isinstance(given, list) else given


def _one_of(field: str, values: tuple[str, ...], meaning: str, **more: Any) -> Rule:
    return Rule(
        field,
        "one of " + ", ".join(values),
        lambda value: value in values,
        meaning,
        {"type": "string", "enum": list(values)},
        **more,
    )


def _text(field: str, allowed: str, meaning: str) -> Rule:
    """A text that is not empty; left out it is null."""
    return Rule(
        field,
        allowed,
        lambda value: isinstance(value, str) and bool(value.strip()),
        meaning,
        {"type": ["string", "null"]},
        needs_new_backend=True,
    )


def _count(field: str, least: int, most: int, meaning: str, **more: Any) -> Rule:
    def accepts(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Rule(field, f"a whole number from {least} to {most}", accepts, meaning, schema, **more)


def _share(field: str, meaning: str) -> Rule:
    def accepts(value: Any) -> bool:
        return value is None or (type(value) in (int, float) and 0 <= value <= 1)

    schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    return Rule(field, "a number from 0 to 1", accepts, meaning, schema)


def _switch(field: str, meaning: str) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, bool)

    return Rule(field, "true or false", accepts, meaning, {"type": "boolean"})


def _texts(field: str, what: str, meaning: str, fits: Callable[[str], bool]) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(one, str) and fits(one) for one in value)

    schema = {"type": "array", "items": {"type": "string"}}
    return Rule(field, f"a list of {what}", accepts, meaning, schema)


def _is_pattern(text: str) -> bool:
    try:
        pathspec.GitIgnoreSpec.from_lines([text])
    except ValueError:
        return False
    return bool(text.strip())


RULES: dict[str, Rule] = {
    "model": _text(
        "model",
        "a folder or model name, as text that is not empty",
        "The folder or name of a checkpoint; left out, the model that ships with the server.",
    ),
    "mode": _one_of("mode", MODES, "How the model fills the gap; the modes differ in speed."),
    "maxTokens": _count("max_tokens", 1, 256, "The longest suggestion, in tokens."),
    "maxLines": _count("max_lines", 1, 100, "The longest suggestion, in lines."),
    "multiline": _one_of(
        "multiline",
        MULTILINE,
        "Whether a suggestion may have several lines: `auto` where the syntax at the cursor calls "
        "for a block, and one line elsewhere. Between two pieces of a line it is always one.",
    ),
    "alternatives": _count(
        "alternatives", 1, 10, "How many suggestions to choose from on an explicit request."
    ),
    "minConfidence": _share(
        "min_confidence",
        "Suggestions that the model is less sure of are not shown; 0 shows all. Left out, the "
        "model itself says what is worth showing, and an explicit request shows all. A calibrated "
        "model's confidence is the probability of being right, that of others the geometric mean "
        "of their tokens' probabilities.",
    ),
    "prefixChars": _count(
        "prefix_chars",
        16,
        1_000_000,
        "How many characters before the cursor the model is shown at least, where there are so "
        "many; what the suffix leaves of its share is added.",
    ),
    "suffixChars": _count(
        "suffix_chars",
        0,
        1_000_000,
        "How many characters after the cursor the model is shown at most.",
    ),
    "nextEdits": _switch(
        "next_edits",
        "Whether edits that follow from yours are suggested when you pause, by editors that show "
        "them.",
    ),
    "minEditGain": Rule(
        "min_edit_gain",
        "a number from 0 to 100",
        lambda value: type(value) in (int, float) and 0 <= value <= 100,
        "An edit is suggested only if so many nats speak for it: those by which the model finds "
        "the new text likelier than the old, and some more where it does again what you just did. "
        "More is quieter.",
        {"type": "number", "minimum": 0, "maximum": 100},
    ),
    "copiesFrom": _one_of(
        "copies_from",
        COPIES_FROM,
        "Where the rest of a line may be copied from, if the model finds it likely: the `file` "
        "alone, or open documents, imported files and the same folder as well (`project`).",
    ),
    "snippets": _count(
        "snippets",
        0,
        32,
        "How many pieces of other files the model is shown at most: definitions of names used near "
        "the cursor, what was edited last, and what is similar. The model that ships was not "
        "trained with them, hence 0.",
    ),
    "snippetChars": _count(
        "snippet_chars", 0, 1_000_000, "How many characters these pieces may have together."
    ),
    "disabledLanguages": _texts(
        "disabled_languages",
        "language names, such as markdown",
        "No suggestions in documents of these languages, by the names the editor gives them.",
        lambda name: bool(name.strip()),
    ),
    "exclude": _texts(
        "exclude",
        "patterns as in .gitignore",
        "Files that the model never sees, in no role, relative to each workspace folder. Files "
        "that `.fimignore` names and files with secrets by their name never are seen either.",
        _is_pattern,
    ),
    "gitignore": _switch(
        "gitignore", "Whether what `.gitignore` names is excluded in the same way."
    ),
    "workspaceTrusted": _switch(
        "workspace_trusted",
        "Whether other files than the one at the cursor may be used. Editors that know untrusted "
        "workspaces set it to false there.",
    ),
    "statistics": _switch(
        "statistics",
        "Whether counts of what was shown and accepted are kept, in a file on this machine that "
        "`fim-server stats` shows. They are sent nowhere, and contain no code.",
    ),
    "threads": _count(
        "threads",
        1,
        256,
        "CPU threads for the model; left out, torch decides.",
        needs_new_backend=True,
    ),
    "logLevel": _one_of("log_level", LOG_LEVELS, "How much is logged. No level logs code."),
    "backend": _one_of(
        "backend",
        BACKENDS,
        "Who computes: `engine` shares one model among all editors of this machine, `in_process` "
        "loads one into each editor's server, `openai` and `llama_cpp` ask the server at "
        "`remoteUrl`.",
        needs_new_backend=True,
    ),
    "remoteUrl": _text(
        "remote_url",
        "the address of a server, as http://host:port/v1",
        "The server that is sent the text around the cursor, for the backends that need one.",
    ),
    "remoteModel": _text(
        "remote_model",
        "a model's name on that server",
        "Which of that server's models; left out, its first.",
    ),
    "remoteTemplate": _one_of(
        "remote_template",
        REMOTE_TEMPLATES,
        "How that model is shown a hole; left out, the server decides.",
        needs_new_backend=True,
    ),
    "speculate": _switch(
        "speculate",
        "Whether, while a suggestion is shown, what could follow it is prepared. Never on a remote "
        "server.",
    ),
    "engineIdleMinutes": _count(
        "engine_idle_minutes",
        1,
        10_000,
        "The shared engine leaves when it was not asked anything for so long.",
        needs_new_backend=True,
    ),
}
"""All settings by the name that users write."""


def read_settings(
    options: object,
    base: Settings,
    source: str = "initializationOptions",
    *,
    foreign_keys: bool = False,
) -> tuple[Settings, list[str]]:
    """`base` with what `options` sets, and one message for each thing that is not used.

    `options` is a JSON or TOML value from `source`; null, for the whole or for one key, sets
    nothing. With `foreign_keys` others have settings in the same place: unknown ones are no
    mistake.
    """
    if options is None:
        return base, []
    if not isinstance(options, Mapping):
        return base, [f"{source}: {_shown(options)} is not used; an object is expected"]
    problems = []
    accepted: dict[str, Any] = {}
    for key, value in options.items():
        rule = RULES.get(key)
        if rule is None:
            if not foreign_keys:
                problems.append(
                    f"setting {_shown(key)} is unknown; the settings are: {', '.join(RULES)}"
                )
        elif value is not None:
            if rule.accepts(value):
                accepted[rule.field] = rule.value(value)
            else:
                problems.append(_refusal(key, rule, value, base))
    return replace(base, **accepted), problems


def needs_new_backend(old: Settings, new: Settings) -> bool:
    """Whether a change between the two is of the backend itself."""
    fields = (rule.field for rule in RULES.values() if rule.needs_new_backend)
    return any(getattr(old, field) != getattr(new, field) for field in fields)


def _refusal(key: str, rule: Rule, value: object, base: Settings) -> str:
    kept = getattr(base, rule.field)
    stays = "the default" if kept is None else repr(list(kept) if kept == () else kept)
    return f"setting {key}: {_shown(value)} is not used, {rule.allowed} is expected; {stays} stays"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
