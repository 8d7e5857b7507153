"""`fim-server engine`: run the process that owns the model and serves all editors of the user."""

from __future__ import annotations

import argparse

from fim_server import log
from fim_server.commands.terminal import print_error
from fim_server.commands.usage_error import UsageError
from fim_server.engine.launch import ALREADY_RUNNING
from fim_server.engine.paths import EngineStartError


def run(arguments: argparse.Namespace) -> int:
    """Serve until idle or interrupted; says on stderr when the model is loaded, or why it is not.

    Raises UsageError.
    """
    try:
        from fim_server.engine.process import AT_ONCE, EngineOptions, run_engine
    except ImportError as missing:
        raise UsageError(
            f"the engine needs the module {missing.name}: pip install 'fim-server[local]'"
        ) from missing
    log.configure("info" if arguments.verbose else "warning")
    options = EngineOptions(
        model=arguments.model,
        threads=arguments.threads,
        idle_minutes=arguments.idle_minutes,
        cache_bytes=None if arguments.cache_mb is None else arguments.cache_mb * 2**20,
        port=arguments.tcp,
        at_once=arguments.at_once or AT_ONCE,
    )
    try:
        code = run_engine(options, lambda line: print_error(f"fim-server engine: {line}"))
    except EngineStartError as problem:
        raise UsageError(str(problem)) from None
    if code == ALREADY_RUNNING:
        print_error("fim-server engine: another engine already serves this model")
    return code
