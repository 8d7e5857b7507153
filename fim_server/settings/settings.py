"""The settings, each declared once, and their reader for any JSON or TOML mapping.

An invalid value is never fatal: it yields a message and leaves the previous value in force.
`settings/sources.py` lists the sources and their precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fim_model.requests import MODES, Mode

from fim_server.log import LOG_LEVELS, LogLevel
from fim_server.settings import setting_kinds as kinds
from fim_server.settings.setting_kinds import Setting

BackendName = Literal["engine", "in_process", "openai", "llama_cpp"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)

Multiline = Literal["auto", "always", "never"]
MULTILINE: tuple[Multiline, ...] = ("auto", "always", "never")

RemoteTemplate = Literal[
    "fim-server", "fim-server-joined", "qwen", "starcoder", "codellama", "deepseek", "codestral",
    "codegemma",
]  # fmt: skip
REMOTE_TEMPLATES: tuple[RemoteTemplate, ...] = get_args(RemoteTemplate)
"""The templates themselves are in `backends/templates.py`."""

CopiesFrom = Literal["project", "file"]
COPIES_FROM: tuple[CopiesFrom, ...] = ("project", "file")


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings. SETTINGS documents each field and validates its values."""

    model: str | None = None
    mode: Mode = "auto"
    max_tokens: int = 64
    max_lines: int = 8
    multiline: Multiline = "auto"
    alternatives: int = 3
    min_confidence: float | None = None
    prose_confidence: float = 0.5
    prefix_chars: int = 1200
    suffix_chars: int = 500
    next_edits: bool = True
    min_edit_gain: float = 0.9
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
    adapter: bool = True

    @property
    def speculates(self) -> bool:
        """Whether to speculate: never on a remote server, which other people may share."""
        return self.speculate and self.backend in ("engine", "in_process")


SETTINGS: dict[str, Setting] = {
    "model": kinds.text(
        "model",
        "a folder, a GGUF file or a model name",
        "Checkpoint folder, GGUF file or Hugging Face id of the model to load; unset, the model "
        "that ships with the server.",
    ),
    "mode": kinds.one_of(
        "mode",
        MODES,
        "Decoding mode, which determines the speed; `auto` uses the one that `fim-server bench "
        "modes` measured to be best on this machine, or else `adaptive`.",
    ),
    "maxTokens": kinds.integer("max_tokens", 1, 256, "Maximum length of a suggestion, in tokens."),
    "maxLines": kinds.integer("max_lines", 1, 100, "Maximum length of a suggestion, in lines."),
    "multiline": kinds.one_of(
        "multiline",
        MULTILINE,
        "Whether suggestions may span several lines: `auto` allows it where the syntax at the "
        "cursor expects a block, and a cursor with code after it on its line always gets a "
        "single line.",
    ),
    "alternatives": kinds.integer(
        "alternatives",
        1,
        10,
        "Number of suggestions to choose from when completion is invoked explicitly.",
    ),
    "minConfidence": kinds.probability(
        "min_confidence",
        "Minimum confidence, from 0 to 1, for a suggestion to be shown: 0 shows all; unset, the "
        "model's calibrated threshold applies while typing, and explicit requests show all.",
    ),
    "proseConfidence": Setting(
        "prose_confidence",
        "a number from 0 to 1",
        lambda value: type(value) in (int, float) and 0 <= value <= 1,
        "Minimum confidence while you type in comments and in prose (Markdown, plain text, commit "
        "messages), unless `minConfidence` is set: 0 treats them as code, 1 hides nearly all.",
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    "prefixChars": kinds.integer(
        "prefix_chars",
        16,
        1_000_000,
        "Characters before the cursor that the model sees, plus what the text after the cursor "
        "leaves unused of `suffixChars`.",
    ),
    "suffixChars": kinds.integer(
        "suffix_chars",
        0,
        1_000_000,
        "Maximum number of characters after the cursor that the model sees; 0 hides the text "
        "after the cursor.",
    ),
    "nextEdits": kinds.switch(
        "next_edits",
        "Suggest edits that follow from your recent ones when you pause, in editors that can "
        "show them.",
    ),
    "minEditGain": Setting(
        "min_edit_gain",
        "a number from 0 to 100",
        lambda value: type(value) in (int, float) and 0 <= value <= 100,
        "Minimum log-odds, in nats, that an edit is right for it to be shown: 0 shows what is "
        "likelier right than wrong, and higher values show fewer edits.",
        {"type": "number", "minimum": 0, "maximum": 100},
    ),
    "copiesFrom": kinds.one_of(
        "copies_from",
        COPIES_FROM,
        "Where the rest of a line may be copied from when the model finds it likely: this `file` "
        "only, or with `project` also open documents, imported files and the same folder.",
    ),
    "snippets": kinds.integer(
        "snippets",
        0,
        32,
        "Maximum number of snippets from other files in the prompt (definitions, recent edits, "
        "similar code); 0, the default, sends none, because the model that ships was not trained "
        "with snippets.",
    ),
    "snippetChars": kinds.integer(
        "snippet_chars", 0, 1_000_000, "Maximum total length of these snippets, in characters."
    ),
    "disabledLanguages": kinds.strings(
        "disabled_languages",
        "language names, such as markdown",
        "Language identifiers, as the editor names them, whose documents get no suggestions.",
        lambda name: bool(name.strip()),
    ),
    "exclude": kinds.strings(
        "exclude",
        "patterns as in .gitignore",
        "Files that the model never sees, as `.gitignore` patterns relative to each workspace "
        "folder, in addition to `.fimignore` files and to secrets recognized by name.",
        kinds.is_pattern,
    ),
    "gitignore": kinds.switch("gitignore", "Exclude the files that `.gitignore` matches as well."),
    "workspaceTrusted": kinds.switch(
        "workspace_trusted",
        "Read other files of the workspace for context; editors with workspace trust set this to "
        "false in untrusted workspaces.",
    ),
    "statistics": kinds.switch(
        "statistics",
        "Count shown and accepted suggestions in a local file, which `fim-server stats` prints; "
        "the counts contain no code and are never sent anywhere.",
    ),
    "threads": kinds.integer(
        "threads",
        1,
        256,
        "Number of CPU threads for the model; unset, PyTorch's default.",
        needs_new_backend=True,
    ),
    "logLevel": kinds.one_of(
        "log_level", LOG_LEVELS, "Verbosity of the log, which contains no code at any level."
    ),
    "backend": kinds.one_of(
        "backend",
        BACKENDS,
        "What runs the model: `engine` is one process shared by all editors on this machine, "
        "`in_process` loads the model into each editor's server, `openai` and `llama_cpp` use the "
        "server at `remoteUrl`.",
        needs_new_backend=True,
    ),
    "remoteUrl": kinds.text(
        "remote_url",
        "a server's URL, such as http://host:port/v1",
        "URL of the server that the `openai` and `llama_cpp` backends send the text around the "
        "cursor to.",
        kinds.is_server_address,
        secret=True,
    ),
    "remoteModel": kinds.text(
        "remote_model",
        "the name of a model on that server",
        "Name of the model to request from the remote server; unset, the first one it lists.",
    ),
    "remoteTemplate": kinds.one_of(
        "remote_template",
        REMOTE_TEMPLATES,
        "Fill-in-the-middle prompt format of the remote model; unset, the text after the cursor "
        "is sent as `suffix` and the server formats the prompt.",
        needs_new_backend=True,
    ),
    "speculate": kinds.switch(
        "speculate",
        "Compute the continuation of a suggestion while it is shown, so that the next one appears "
        "sooner; never done on remote servers.",
    ),
    "engineIdleMinutes": kinds.integer(
        "engine_idle_minutes",
        1,
        10_000,
        "Idle minutes after which the shared engine exits.",
        needs_new_backend=True,
    ),
    "adapter": kinds.switch(
        "adapter",
        "Complete with what `fim-server tune` learned from the workspace, if it was tuned for this "
        "model.",
    ),
}
"""All settings, by their public name."""


def read_settings(
    options: object,
    base: Settings,
    source: str = "initializationOptions",
    *,
    foreign_keys: bool = False,
) -> tuple[Settings, list[str]]:
    """`base` with the values of `options`, and one message for each value that is not used.

    `options` is a JSON or TOML value from `source`; null, for the whole or for one key, sets
    nothing. With `foreign_keys`, unknown keys belong to other programs and are skipped silently.
    """
    if options is None:
        return base, []
    if not isinstance(options, Mapping):
        return base, [f"{source}: {_shown(options)} is not used: expected an object"]
    problems = []
    accepted: dict[str, Any] = {}
    for key, value in options.items():
        setting = SETTINGS.get(key)
        if setting is None:
            if not foreign_keys:
                known = ", ".join(SETTINGS)
                problems.append(f"setting {_shown(key)} is unknown; the settings are: {known}")
        elif value is not None:
            if setting.accepts(value):
                accepted[setting.field] = setting.value(value)
            elif usable := _usable_items(setting, value):
                # One pattern that is none must not show what the others exclude.
                bad = [item for item in value if not setting.accepts([item])]
                problems.append(_refusal(key, setting, bad, base, keeping="the others"))
                accepted[setting.field] = setting.value(usable)
            else:
                problems.append(_refusal(key, setting, value, base))
    return replace(base, **accepted), problems


def needs_new_backend(old: Settings, new: Settings) -> bool:
    """Whether the change from `old` to `new` requires reloading the model."""
    fields = (setting.field for setting in SETTINGS.values() if setting.needs_new_backend)
    return any(getattr(old, field) != getattr(new, field) for field in fields)


def _usable_items(setting: Setting, value: object) -> list[Any]:
    """The valid items of a list, for a setting that is one."""
    if not isinstance(value, list) or not setting.accepts([]):
        return []
    return [item for item in value if setting.accepts([item])]


def _refusal(key: str, setting: Setting, value: object, base: Settings, keeping: str = "") -> str:
    kept = getattr(base, setting.field)
    default = "the default" if kept is None else repr(list(kept) if kept == () else kept)
    keeping = keeping or default
    given = f"a value ({type(value).__name__})" if setting.secret else _shown(value)
    if setting.secret and kept is not None:
        keeping = "the previous one"
    return f"setting {key}: {given} is not used: expected {setting.allowed}; keeping {keeping}"


def _shown(value: object) -> str:
    """A value in at most 80 characters, on one line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits, or too deep
        return f"a value ({type(value).__name__})"
    return text if len(text) <= 80 else text[:77] + "..."
