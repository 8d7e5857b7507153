"""`fim-server engine`: run the process that owns the model and serves all editors of the user."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from fim_server import log
from fim_server.access.tuned_workspaces import adapters_folder
from fim_server.commands.client_config import CLIENTS, DEFAULT_PORT, Port
from fim_server.commands.terminal import print_error
from fim_server.commands.usage_error import UsageError
from fim_server.commands.user_settings import settings_of
from fim_server.completion.statistics import Statistics, statistics_file
from fim_server.engine.launch import ALREADY_RUNNING
from fim_server.engine.paths import EnginePaths, EngineStartError, engine_paths, model_identity

KEY_VARIABLE = "FIM_ENGINE_API_KEY"


def run(arguments: argparse.Namespace) -> int:
    """Serve until idle or interrupted; says on stderr when the model is loaded, or why it is not.

    With `--print-config`, print a client's settings instead. Raises UsageError.
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
    key = _key(arguments.api_key)
    if arguments.print_config is not None:
        return _print_config(arguments.print_config, paths, arguments.tcp, key)
    options = EngineOptions(
        model=model,
        threads=settings.threads,
        idle_minutes=arguments.idle_minutes,
        cache_bytes=None if arguments.cache_mb is None else arguments.cache_mb * 2**20,
        port=arguments.tcp,
        key=key,
        at_once=arguments.at_once or AT_ONCE,
        suggestions=_suggestions,
        adapters=adapters_folder(),
    )

    def opened(port: int, pid: int) -> None:
        say(
            f"an engine with this model runs already (process {pid}); it serves "
            f"http://127.0.0.1:{port} as well while this command runs"
        )

    try:
        while (code := run_engine(options, say)) == ALREADY_RUNNING:
            if options.port is None:
                say("another engine already serves this model")
                break
            hold_port(paths, options.port, options.key, opened)
    except EngineStartError as problem:
        raise UsageError(str(problem)) from None
    return code


def say(line: str) -> None:
    print_error(f"fim-server engine: {line}")


def _key(given: str | None) -> str:
    """The key that clients of the port must send, "" for none. Raises UsageError."""
    from fim_server.engine.loopback import check_key

    if given == "":
        raise UsageError("--api-key: the key is empty; leave the option out to ask for none")
    key = os.environ.get(KEY_VARIABLE, "") if given is None else given
    try:
        check_key(key)
    except EngineStartError as problem:
        raise UsageError(f"{KEY_VARIABLE if given is None else '--api-key'}: {problem}") from None
    return key


def _print_config(client: str, paths: EnginePaths, number: int | None, key: str) -> int:
    """Print a client's settings for the port that the running engine serves, with its key.

    Without such a port, for the one that `--tcp` and `--api-key` name.
    """
    from fim_server.engine.loopback import open_ports

    running = open_ports(paths) or {}
    ports = [
        Port(int(found["port"]), str(found["key"]), str(running["model"]))
        for found in running.get("ports", ())
        if number in (None, found["port"])
    ]
    port = ports[0] if ports else Port(number or DEFAULT_PORT, key, "default")
    config = CLIENTS[client]
    print_error(f"for {config.where}:")
    sys.stdout.write(config.text(port))
    sys.stdout.flush()
    if not ports:
        more = f" --api-key KEY (or {KEY_VARIABLE})" if key else ""
        say(
            f"no engine serves port {port.number} now; start it with: fim-server engine --tcp "
            f"{port.number}{more}"
        )
    return 0


def _suggestions() -> Mapping[str, int]:
    """What editors on this machine showed and users accepted, all days together."""
    return Statistics(statistics_file()).totals()["total"]
