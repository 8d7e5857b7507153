"""A user's mistake is named, with the way out, and never stops the server."""

from __future__ import annotations

import dataclasses

import pytest

from fim_server.settings import _RULES, Settings, read_settings

DEFAULTS = Settings()


def test_what_the_client_sets_is_used() -> None:
    options = {
        "model": "/models/small",
        "mode": "ar",
        "maxTokens": 32,
        "maxLines": 4,
        "alternatives": 2,
        "prefixChars": 4000,
        "suffixChars": 0,
        "threads": 2,
        "logLevel": "debug",
        "backend": "openai",
        "remoteUrl": "http://127.0.0.1:8000/v1",
        "remoteModel": "coder",
        "remoteTemplate": "qwen",
        "speculate": False,
        "engineIdleMinutes": 5,
    }
    settings, problems = read_settings(options, DEFAULTS)
    assert problems == []
    assert dataclasses.astuple(settings) == tuple(options.values())


def test_every_setting_can_be_set() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {rule.field for rule in _RULES.values()} == fields


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
        ("threads", -1, "a whole number from 1 to 256"),
        ("model", "  ", "a folder or model name"),
        ("logLevel", "verbose", "one of error, warning, info, debug"),
    ],
)
def test_a_wrong_value_is_named_and_the_default_stays(
    key: str, value: object, expected: str
) -> None:
    settings, [problem] = read_settings({key: value, "suffixChars": 7}, DEFAULTS)
    assert problem.startswith(f"setting {key}: {value!r} is not used, {expected}")
    assert "\n" not in problem
    assert settings == dataclasses.replace(DEFAULTS, suffix_chars=7)


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    settings, [problem] = read_settings({"max_tokens": 5}, DEFAULTS)
    assert settings == DEFAULTS
    assert problem.startswith("setting 'max_tokens' is unknown; the settings are: model, mode")


def test_options_that_are_no_object_are_named() -> None:
    settings, [problem] = read_settings(["mode"], DEFAULTS)
    assert settings == DEFAULTS
    assert "an object is expected" in problem


def test_a_huge_value_is_not_repeated_whole() -> None:
    _, [problem] = read_settings({"mode": "x" * 10_000}, DEFAULTS)
    assert len(problem) < 300
