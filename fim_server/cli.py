"""`fim-server`: the command line. Parses, then hands over to a module of `fim_server.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from fim_server.commands.arguments import (
    Commands,
    add_loading_options,
    add_model_options,
    add_place,
    lazily,
    minutes,
    port,
    positive,
)
from fim_server.commands.bench_arguments import add_bench, add_eval
from fim_server.commands.usage_error import UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 for bad input, 130 when interrupted."""
    arguments = build_parser().parse_args(argv)
    try:
        result: int = arguments.run(arguments)
    except UsageError as wrong:
        sys.stderr.write(f"fim-server: {wrong}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return result


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fim-server", description="Local code completion.")
    parser.add_argument(
        "--version", action="version", version=f"fim-server {metadata.version('fim-server')}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_lsp(commands)
    _add_engine(commands)
    _add_complete(commands)
    _add_edit(commands)
    _add_revise(commands)
    _add_context(commands)
    add_eval(commands)
    add_bench(commands)
    _add_doctor(commands)
    _add_stats(commands)
    _add_models(commands)
    return parser


def _add_lsp(commands: Commands) -> None:
    lsp = commands.add_parser("lsp", help="serve an editor on stdin and stdout")
    lsp.add_argument("--stdio", action="store_true", help="accepted for editors that pass it")
    lsp.add_argument(
        "--in-process",
        action="store_true",
        help="load the model into this process instead of sharing the engine's",
    )
    lsp.set_defaults(run=lazily("lsp", "run"))


def _add_engine(commands: Commands) -> None:
    engine = commands.add_parser("engine", help="serve the model to all editors of this user")
    engine.add_argument("--model", metavar="ID_OR_PATH", help="default: the model that ships")
    engine.add_argument("--threads", type=positive, metavar="N", help="CPU threads")
    engine.add_argument(
        "--tcp",
        type=port,
        metavar="PORT",
        help="serve on 127.0.0.1 instead of the user's socket; clients send the bearer token that "
        "is kept in a file only the user can read",
    )
    engine.add_argument(
        "--idle-minutes", type=minutes, metavar="N", help="leave after so long without a request"
    )
    engine.add_argument(
        "--cache-mb",
        type=positive,
        metavar="N",
        help="memory for the kept keys and values of documents (default: 512)",
    )
    engine.add_argument(
        "--at-once",
        type=positive,
        metavar="N",
        help="requests of different sessions that share their forwards (default: 4)",
    )
    engine.add_argument("--verbose", action="store_true", help="log more than warnings")
    engine.set_defaults(run=lazily("engine", "run"))


def _add_complete(commands: Commands) -> None:
    complete = commands.add_parser("complete", help="fill the hole at a position of a file")
    add_place(complete)
    add_model_options(complete, mode=None)
    complete.add_argument("--alternatives", type=positive, default=1, metavar="N")
    complete.add_argument("--max-tokens", type=positive)
    complete.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    complete.add_argument("--seed", type=int, default=0)
    output = complete.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout")
    output.add_argument("--watch", action="store_true", help="show the hole as it is denoised")
    complete.set_defaults(run=lazily("complete", "run"))


def _add_edit(commands: Commands) -> None:
    edit = commands.add_parser("edit", help="the edits that follow from those of a patch")
    edit.add_argument("file", type=Path)
    edit.add_argument(
        "--history",
        type=Path,
        required=True,
        metavar="PATCH",
        help="a unified diff of edits that were made already, - for stdin",
    )
    add_loading_options(edit)
    edit.add_argument("--json", action="store_true", help="one JSON object on stdout")
    edit.set_defaults(run=lazily("edit", "edit"))


def _add_revise(commands: Commands) -> None:
    revise = commands.add_parser("revise", help="what the model would make of some lines")
    revise.add_argument("file", type=Path)
    revise.add_argument("--lines", required=True, metavar="A-B", help="counted from 1, inclusive")
    add_loading_options(revise)
    output = revise.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout")
    output.add_argument("--watch", action="store_true", help="show tokens masked and filled again")
    revise.set_defaults(run=lazily("edit", "revise"))


def _add_context(commands: Commands) -> None:
    context = commands.add_parser("context", help="what the model would see at a position, and why")
    add_place(context)
    context.add_argument("--snippets", type=positive, metavar="N", help="pieces of other files")
    context.add_argument(
        "--tokens", action="store_true", help="also the prompt in the model's own tokens"
    )
    context.add_argument("--model", metavar="ID_OR_PATH", help="the model, for --tokens")
    context.add_argument("--json", action="store_true", help="one JSON object on stdout")
    context.set_defaults(run=lazily("context", "run"))


def _add_models(commands: Commands) -> None:
    kinds = commands.add_parser("models", help="look at checkpoints").add_subparsers(
        metavar="ACTION", required=True
    )
    inspect = kinds.add_parser("inspect", help="family, sizes and modes, without loading weights")
    inspect.add_argument("model", metavar="ID_OR_PATH")
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")
    inspect.set_defaults(run=lazily("models", "inspect"))


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="what works here, what does not, and the fix")
    doctor.add_argument("--json", action="store_true", help="one JSON object on stdout")
    doctor.set_defaults(run=lazily("doctor", "run"))


def _add_stats(commands: Commands) -> None:
    stats = commands.add_parser("stats", help="what was suggested and accepted on this machine")
    stats.add_argument("--json", action="store_true", help="one JSON object on stdout")
    stats.set_defaults(run=lazily("stats", "run"))
