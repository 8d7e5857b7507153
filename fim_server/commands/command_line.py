"""The arguments of `fim-server`, and the module of this room that each command calls."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from fim_server.commands.arguments import (
    Commands,
    add_backend_option,
    add_loading_options,
    add_model_options,
    add_place,
    lazily,
    minutes,
    number,
    port,
    positive,
    process_id,
    whole,
)
from fim_server.commands.bench_arguments import add_bench, add_eval
from fim_server.commands.client_config import CLIENTS, DEFAULT_PORT
from fim_server.commands.shell_completion import SHELLS
from fim_server.commands.terminal import discard_output, prepare_streams, print_error, visible
from fim_server.commands.usage_error import UsageError


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for bad input, 130 if interrupted."""
    prepare_streams()
    arguments = build_parser().parse_args(argv)
    try:
        result: int = arguments.run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        print_error(f"fim-server: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        discard_output()
        return 0
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        discard_output()
        print_error(f"fim-server: the output cannot be written ({problem.strerror})")
        return 2
    return result


class _Parser(argparse.ArgumentParser):
    """Quotes arguments without their control characters: a shell's `*` may be a file's name."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def build_parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="fim-server", description="Local code completion."
    )
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
    _add_tune(commands)
    _add_completion(commands, parser)
    return parser


def _add_lsp(commands: Commands) -> None:
    lsp = commands.add_parser("lsp", help="run the language server on stdin and stdout")
    lsp.add_argument("--stdio", action="store_true", help="ignored; some editors pass it")
    lsp.add_argument(
        "--clientProcessId",
        type=process_id,
        metavar="N",
        help="process id of the editor, as some pass it; the server exits when that process ends",
    )
    lsp.add_argument(
        "--in-process",
        action="store_true",
        help="load the model into this process instead of using the shared engine",
    )
    lsp.set_defaults(run=lazily("lsp", "run"))


def _add_engine(commands: Commands) -> None:
    engine = commands.add_parser(
        "engine", help="run the engine, which serves the model to all editors of this user"
    )
    engine.add_argument(
        "--model",
        metavar="ID_OR_PATH",
        help="default: the setting model, or else the model that ships",
    )
    engine.add_argument("--threads", type=positive, metavar="N", help="number of CPU threads")
    engine.add_argument(
        "--tcp",
        type=port,
        nargs="?",
        const=DEFAULT_PORT,
        metavar="PORT",
        help="serve programs of this machine on 127.0.0.1 too, from the running engine if there is "
        f"one; PORT is {DEFAULT_PORT} if it is left out",
    )
    engine.add_argument(
        "--api-key",
        metavar="KEY",
        help="key that clients of the port must send; default: FIM_ENGINE_API_KEY, which other "
        "users do not see in the list of processes, or else none",
    )
    engine.add_argument(
        "--print-config",
        choices=tuple(CLIENTS),
        metavar="CLIENT",
        help="print the settings by which CLIENT uses the port, and end: " + ", ".join(CLIENTS),
    )
    engine.add_argument(
        "--idle-minutes", type=minutes, metavar="N", help="exit after N minutes without a request"
    )
    engine.add_argument(
        "--cache-mb",
        type=positive,
        metavar="N",
        help="memory for the KV caches of documents, in MB (default: 512)",
    )
    engine.add_argument(
        "--at-once",
        type=positive,
        metavar="N",
        help="requests of different documents that are processed together (default: 4)",
    )
    engine.add_argument("--verbose", action="store_true", help="log more than warnings")
    engine.set_defaults(run=lazily("engine", "run"))


def _add_complete(commands: Commands) -> None:
    complete = commands.add_parser(
        "complete",
        help="complete at a position in a file",
        epilog="example: fim-server complete src/app.py:12:9 --watch",
    )
    add_place(complete)
    add_model_options(complete, mode=None)
    add_backend_option(complete)
    complete.add_argument(
        "--alternatives", type=positive, default=1, metavar="N", help="most suggestions to print"
    )
    complete.add_argument("--max-tokens", type=positive)
    complete.add_argument(
        "--temperature",
        type=number,
        default=0.0,
        help="sampling temperature; 0 (the default) is greedy",
    )
    complete.add_argument("--seed", type=whole, default=0)
    output = complete.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object")
    output.add_argument("--text", action="store_true", help="print the suggested text alone")
    output.add_argument("--watch", action="store_true", help="show how the text is decoded")
    complete.set_defaults(run=lazily("complete", "run"))


def _add_edit(commands: Commands) -> None:
    edit = commands.add_parser(
        "edit",
        help="edit lines as an instruction says, or suggest what follows from a patch",
        epilog='example: fim-server edit src/app.py:10-24 --instruction "add type hints"',
    )
    edit.add_argument("file", metavar="FILE[:A-B]", help="with --instruction, the lines to edit")
    asked = edit.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--history",
        type=Path,
        metavar="PATCH",
        help="unified diff of the edits already made; - reads stdin",
    )
    asked.add_argument("--instruction", metavar="TEXT", help="what to do with the lines")
    edit.add_argument("--apply", action="store_true", help="write the edits of an instruction")
    add_loading_options(edit)
    add_backend_option(edit)
    edit.add_argument("--json", action="store_true", help="print one JSON object")
    edit.set_defaults(run=lazily("edit", "edit"))


def _add_revise(commands: Commands) -> None:
    revise = commands.add_parser("revise", help="rewrite some lines with the model")
    revise.add_argument("file", type=Path)
    revise.add_argument(
        "--lines", required=True, metavar="A-B", help="first and last line, from 1, inclusive"
    )
    add_loading_options(revise)
    add_backend_option(revise)
    output = revise.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object")
    output.add_argument(
        "--watch", action="store_true", help="show tokens being re-masked and refilled"
    )
    revise.set_defaults(run=lazily("edit", "revise"))


def _add_context(commands: Commands) -> None:
    context = commands.add_parser(
        "context", help="show what the model would see at a position, and why"
    )
    add_place(context)
    context.add_argument(
        "--snippets", type=positive, metavar="N", help="maximum number of snippets"
    )
    context.add_argument(
        "--tokens", action="store_true", help="also print the prompt as the model's tokens"
    )
    context.add_argument("--model", metavar="ID_OR_PATH", help="model whose tokens --tokens prints")
    context.add_argument("--json", action="store_true", help="print one JSON object")
    context.set_defaults(run=lazily("context", "run"))


def _add_models(commands: Commands) -> None:
    kinds = commands.add_parser("models", help="inspect and export checkpoints").add_subparsers(
        metavar="ACTION", required=True
    )
    inspect = kinds.add_parser(
        "inspect", help="print family, sizes and modes, without loading weights"
    )
    inspect.add_argument("model", metavar="ID_OR_PATH", help="'default' is the model that ships")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    inspect.set_defaults(run=lazily("models", "inspect"))
    export = kinds.add_parser(
        "export", help="write a checkpoint as a GGUF file for llama.cpp, or as a folder for vLLM"
    )
    export.add_argument("model", metavar="ID_OR_PATH", help="'default' is the model that ships")
    export.add_argument("out", type=Path, metavar="OUT", help="OUT.gguf is a file, else a folder")
    export.add_argument(
        "--dtype",
        choices=("f16", "q8_0", "f32", "bf16"),
        help="of the matrices (default: f16 in a file, f32 in a folder); q8_0, in a file only, is "
        "8 bits with a scale for 32 numbers; bf16 in a folder only",
    )
    export.add_argument("--json", action="store_true", help="print one JSON object")
    export.set_defaults(run=lazily("models", "export"))


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser(
        "doctor", help="check the installation and say how to fix problems"
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=lazily("doctor", "run"))


def _add_stats(commands: Commands) -> None:
    stats = commands.add_parser(
        "stats", help="print how many suggestions were shown and accepted on this machine"
    )
    stats.add_argument("--json", action="store_true", help="print one JSON object")
    stats.set_defaults(run=lazily("stats", "run"))


def _add_tune(commands: Commands) -> None:
    tune = commands.add_parser(
        "tune",
        help="adapt the model to a workspace, in the background",
        epilog="example: fim-server tune ~/src/project --hours 6",
    )
    tune.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="default: this one; to show, to stop or to remove also an adapter's name",
    )
    tune.add_argument(
        "--hours", type=minutes, metavar="H", help="of training (default: 1), measuring aside"
    )
    add_loading_options(tune)
    tune.add_argument(
        "--holes",
        type=positive,
        metavar="N",
        help="held-out places of each of three kinds to measure with (default: 80)",
    )
    tune.add_argument("--foreground", action="store_true", help="run here until it is done")
    actions = tune.add_mutually_exclusive_group()
    for name, what in (
        ("status", "show how far it is, or what came of it"),
        ("pause", "save and end; --resume goes on"),
        ("resume", "go on where it was paused"),
        ("stop", "end, and drop what was trained so far"),
        ("remove", "remove the adapter and everything that tuning left"),
        ("list", "list the adapters of all folders, also of those that are gone"),
    ):
        actions.add_argument(
            f"--{name}", action="store_const", dest="action", const=name, help=what
        )
    tune.add_argument("--json", action="store_true", help="print one JSON object")
    tune.set_defaults(run=lazily("tune", "run"), action="start")


def _add_completion(commands: Commands, parser: argparse.ArgumentParser) -> None:
    completion = commands.add_parser(
        "completion", help="print a script that completes these commands in a shell"
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=lazily("shell_completion", "run"), parser=parser)
