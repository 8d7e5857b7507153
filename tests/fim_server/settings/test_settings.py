"""Invalid settings are reported with a remedy and never stop the server."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from fim_server.lsp.backend_choice import backend_for
from fim_server.settings import docs as settings_docs
from fim_server.settings.settings import SETTINGS, Settings, needs_new_backend, read_settings
from fim_server.settings.sources import SettingsSources, pushed_configuration

DEFAULTS = Settings()

SET = {
    "model": "/models/small",
    "mode": "ar",
    "maxTokens": 32,
    "maxLines": 4,
    "multiline": "never",
    "copiesFrom": "file",
    "alternatives": 2,
    "minConfidence": 0.25,
    "proseConfidence": 0.9,
    "prefixChars": 4000,
    "suffixChars": 0,
    "nextEdits": False,
    "minEditGain": 4.5,
    "snippets": 4,
    "snippetChars": 900,
    "disabledLanguages": ["markdown", "plaintext"],
    "exclude": ["legal/", "!legal/a.py"],
    "gitignore": False,
    "workspaceTrusted": False,
    "statistics": False,
    "threads": 2,
    "logLevel": "debug",
    "backend": "openai",
    "remoteUrl": "http://127.0.0.1:8000/v1",
    "remoteModel": "coder",
    "remoteTemplate": "qwen",
    "speculate": False,
    "engineIdleMinutes": 5,
    "adapter": False,
}


def test_the_clients_settings_are_used() -> None:
    settings, problems = read_settings(SET, DEFAULTS)
    assert problems == []
    assert SET.keys() == SETTINGS.keys()
    for key, value in SET.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(settings, SETTINGS[key].field) == expected
        assert getattr(DEFAULTS, SETTINGS[key].field) != expected


def test_every_setting_can_be_set() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {setting.field for setting in SETTINGS.values()} == fields


def test_every_default_is_allowed() -> None:
    for key, setting in SETTINGS.items():
        default = settings_docs.schema()[key]["default"]
        assert default is None or setting.accepts(default), key


@pytest.mark.parametrize("options", [None, {}, {"mode": None, "threads": None}])
def test_nothing_set_leaves_the_defaults(options: object) -> None:
    assert read_settings(options, DEFAULTS) == (DEFAULTS, [])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("mode", "autoregressive", "one of ar, diffusion, self_speculation"),
        ("mode", ["ar"], "one of ar, diffusion, self_speculation"),
        ("maxTokens", 0, "a whole number from 1 to 256"),
        ("maxTokens", "64", "a whole number from 1 to 256"),
        ("maxLines", 2.5, "a whole number from 1 to 100"),
        ("alternatives", True, "a whole number from 1 to 10"),
        ("minConfidence", 1.5, "a number from 0 to 1"),
        ("minConfidence", float("nan"), "a number from 0 to 1"),
        ("minEditGain", -1, "a number from 0 to 100"),
        ("minEditGain", float("nan"), "a number from 0 to 100"),
        ("nextEdits", "on", "true or false"),
        ("threads", -1, "a whole number from 1 to 256"),
        ("model", "  ", "a folder, a GGUF file or a model name"),
        ("logLevel", "verbose", "one of error, warning, info, debug"),
        ("gitignore", 1, "true or false"),
        ("exclude", "legal/", "a list of patterns as in .gitignore"),
        ("exclude", ["!"], "a list of patterns as in .gitignore"),
        ("disabledLanguages", [3], "a list of language names"),
    ],
)
def test_an_invalid_value_is_reported_and_the_default_used(
    key: str, value: object, expected: str
) -> None:
    settings, [problem] = read_settings({key: value, "suffixChars": 7}, DEFAULTS)
    assert problem.startswith(f"setting {key}: {value!r} is not used: expected {expected}")
    assert problem.rpartition("; ")[2].startswith("keeping ")
    assert "\n" not in problem
    assert settings == dataclasses.replace(DEFAULTS, suffix_chars=7)


def test_a_bad_item_of_a_list_leaves_the_others() -> None:
    """What the other patterns exclude must not be shown because of it."""
    given = {"exclude": ["private/", "[z-a]", 7, "*.key"], "disabledLanguages": ["c", None]}
    settings, problems = read_settings(given, DEFAULTS)
    assert settings.exclude == ("private/", "*.key")
    assert settings.disabled_languages == ("c",)
    assert problems == [
        "setting exclude: ['[z-a]', 7] is not used: expected a list of patterns as in .gitignore; "
        "keeping the others",
        "setting disabledLanguages: [None] is not used: expected a list of language names, such as "
        "markdown; keeping the others",
    ]


ODD_VALUES: list[object] = [
    True, 0, -1, 1.5, float("nan"), float("inf"), 10**30, 10**5000, "", " ", "x\0y", "\ud800", "\n",
    "x" * 10_000, [], [[]], [None], ["\ud800"], {}, {"a": 1}, [1, "a"], ["[z-a]"], ["!"], b"x",
]  # fmt: skip


@pytest.mark.parametrize("key", SETTINGS)
def test_every_odd_value_is_used_or_named(key: str) -> None:
    """And never raises, and never leaves the type of the field."""
    for value in ODD_VALUES:
        settings, problems = read_settings({key: value}, DEFAULTS)
        if problems:
            [problem] = problems
            assert problem.startswith(f"setting {key}: ")
            assert SETTINGS[key].allowed in problem
            assert "\n" not in problem
            assert problem.encode()
            some = value == [1, "a"] and SETTINGS[key].accepts(["a"])
            expected = {SETTINGS[key].field: ("a",)} if some else {}
            assert settings == dataclasses.replace(DEFAULTS, **expected)
        else:
            assert SETTINGS[key].accepts(value)
        assert backend_for(settings) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/v1",
        "http://host:abc/v1",
        "http://host:70000",
        "http://host:0",
        "http://user:hidden@[/v1",
        "ftp://user:hidden@host/v1",
        "host/v1",
        "host:8000",
        "http:///v1",
        "http://ho st/v1",
        "http://host/v1?key=hidden",
        "http://host/v1#x",
        "/v1",
    ],
)
def test_an_address_that_is_none_is_named_without_its_value(url: str) -> None:
    base = dataclasses.replace(DEFAULTS, remote_url="http://old:hidden@host/v1")
    settings, [problem] = read_settings({"remoteUrl": url, "backend": "openai"}, base)
    assert problem.startswith("setting remoteUrl: ")
    assert "hidden" not in problem
    assert settings == dataclasses.replace(base, backend="openai")


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1]:8080/v1",
        "https://host",
        "http://10.0.0.1:1/a/b",
        "http://ä.example/v1/ ",
        "HTTP://H",
    ],
)
def test_addresses(url: str) -> None:
    settings, problems = read_settings({"remoteUrl": url}, DEFAULTS)
    assert (settings.remote_url, problems) == (url, [])


def test_an_unknown_key_is_reported_with_the_known_ones() -> None:
    settings, [problem] = read_settings({"max_tokens": 5}, DEFAULTS)
    assert settings == DEFAULTS
    assert problem.startswith("setting 'max_tokens' is unknown; the settings are: model, mode")


def test_options_that_are_not_an_object_are_reported() -> None:
    settings, [problem] = read_settings(["mode"], DEFAULTS)
    assert settings == DEFAULTS
    assert "expected an object" in problem


def test_a_huge_value_is_truncated_in_the_message() -> None:
    _, [problem] = read_settings({"mode": "x" * 10_000}, DEFAULTS)
    assert len(problem) < 300


def test_later_sources_override_only_the_settings_they_contain(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('mode = "ar"\nmaxTokens = 1\nmaxLines = 1\nalternatives = 1\nthreads = 7\n')
    sources = SettingsSources(
        DEFAULTS,
        file,
        initialization_options={"maxTokens": 2, "maxLines": 2, "alternatives": 2},
        configuration={"maxLines": 3, "alternatives": 3, "enable": {"*": True}},
        command_line={"alternatives": 4},
    )
    settings, problems = sources.resolve()
    assert problems == [], "an editor keeps settings of its own in the section"
    assert settings == Settings(mode="ar", max_tokens=2, max_lines=3, alternatives=4, threads=7)
    sources.configuration = None
    assert sources.resolve()[0].max_lines == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"mode = ", "not used: it is not valid TOML (Invalid value"),
        (b"\xff", "not used: it is not UTF-8"),
        (b"mode = 3", "setting mode: 3 is not used: expected one of ar, "),
        (b"threads = " + b"9" * 5000, "not used: it is not valid TOML ("),
        (b"a = " + b"[" * 5000, "not used: it is not valid TOML ("),
        (b"# " + b"x" * (1 << 20), "cannot be read: it has more than 1048576 bytes"),
        (b"[server]\nx = 1", "setting 'server' is unknown; the settings are: "),
    ],
)
def test_mistakes_in_the_file_name_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    settings, [problem] = SettingsSources(DEFAULTS, file).resolve()
    assert settings == DEFAULTS
    assert problem.startswith(f"{file}: {message}")


def test_a_settings_path_that_is_a_folder_or_missing(tmp_path: Path) -> None:
    assert SettingsSources(DEFAULTS, tmp_path / "none.toml").resolve() == (DEFAULTS, [])
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for path in (tmp_path, tmp_path / "fifo.toml", tmp_path / "loop.toml", Path("/dev/zero")):
        [problem] = SettingsSources(DEFAULTS, path).resolve()[1]
        assert "cannot be read" in problem


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'\xef\xbb\xbfmode = "ar"')
    assert SettingsSources(DEFAULTS, file).resolve() == (Settings(mode="ar"), [])


@pytest.mark.parametrize(
    ("settings", "ours"),
    [(None, None), ({}, None), ({"fim": {"mode": "ar"}}, {"mode": "ar"}), ([], None)],
)
def test_our_section_of_a_pushed_configuration(settings: object, ours: object) -> None:
    assert pushed_configuration(settings) == ours


def test_only_model_settings_need_a_new_backend() -> None:
    assert needs_new_backend(DEFAULTS, Settings(model="x"))
    assert needs_new_backend(DEFAULTS, Settings(threads=3))
    assert not needs_new_backend(DEFAULTS, Settings(mode="ar", max_lines=1, exclude=("a",)))


def test_the_document_is_up_to_date() -> None:
    """If this fails: python -m fim_server.settings.docs"""
    file = Path(__file__).parents[3] / settings_docs.DOCUMENT
    assert file.read_text(encoding="utf-8") == settings_docs.document()
    for key, setting in SETTINGS.items():
        assert f"### `{key}`\n\n{setting.description}" in settings_docs.document()
