"""`fim-server engine`: run the process that owns the model and serves all editors of the user."""

from __future__ import annotations

import argparse

from fim_server import log
from fim_server.commands.terminal import print_error
from fim_server.commands.usage_error import UsageError
from fim_server.commands.user_settings import settings_of
from fim_server.engine.launch import ALREADY_RUNNING
from fim_server.engine.paths import EngineStartError, engine_paths, model_identity


def run(arguments: argparse.Namespace) -> int:
    """Serve until idle or interrupted; says on stderr when the model is loaded, or why it is not.

    Raises UsageError.
    """
    try:
        from fim_server.engine.loopback import hold_port
        from fim_server.engine.process import AT_ONCE, EngineOptions, run_engine
    except ImportError as missing:
        raise UsageError(
            f"the engine needs the module {missing.name}: pip install 'fim-server[local]'"
        ) from missing
    log.configure("info" if arguments.verbose else "warning")
    # An engine is for models of this machine, whatever the editors' backend is.
    settings = settings_of(model=arguments.model, threads=arguments.threads, backend="engine")
    model = model_identity(settings.model)
    paths = engine_paths(model)
    options = EngineOptions(
        model=model,
        threads=settings.threads,
        idle_minutes=arguments.idle_minutes,
        cache_bytes=None if arguments.cache_mb is None else arguments.cache_mb * 2**20,
        port=arguments.tcp,
        at_once=arguments.at_once or AT_ONCE,
    )

    def opened(port: int, pid: int) -> None:
        say(
            f"an engine with this model runs already (process {pid}); it serves "
            f"http://127.0.0.1:{port} as well while this command runs, token in {paths.token}"
        )

    try:
        while (code := run_engine(options, say)) == ALREADY_RUNNING:
            if options.port is None:
                say("another engine already serves this model")
                break
            hold_port(paths, options.port, opened)
    except EngineStartError as problem:
        raise UsageError(str(problem)) from None
    return code


def say(line: str) -> None:
    print_error(f"fim-server engine: {line}")
