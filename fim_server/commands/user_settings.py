"""The user's settings for a command: `config.toml`, overridden by the command line."""

from __future__ import annotations

import argparse

from fim_server.commands.terminal import print_error
from fim_server.commands.usage_error import UsageError
from fim_server.settings.settings import Settings
from fim_server.settings.sources import SettingsSources, config_file

REMOTE = ("openai", "llama_cpp")
"""Backends that have no model of their own."""


def settings_of(**command_line: object) -> Settings:
    """The user's settings overridden by the command line; reports invalid ones on stderr.

    Options are named as settings; None means that an option was not given. Raises UsageError where
    an option contradicts the backend.
    """
    given = {key: value for key, value in command_line.items() if value is not None}
    sources = SettingsSources(Settings(), config_file(), command_line=given)
    settings, problems = sources.resolve()
    for problem in problems:
        print_error(f"fim-server: {problem}")
    if "model" in given and settings.backend in REMOTE:
        raise UsageError(
            f"--model {given['model']}: the backend {settings.backend!r} runs no model on this "
            "machine; add --backend engine, or set remoteModel"
        )
    return settings


def with_configured_model(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments of a measurement, which runs on this machine whatever the backend: `model` and
    `threads` are those of the settings unless they are given."""
    settings = settings_of(model=arguments.model, threads=arguments.threads, backend="engine")
    arguments.model, arguments.threads = settings.model, settings.threads
    return arguments
