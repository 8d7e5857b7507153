"""`fim-server`: the command line. Parses, then hands over to a module of `fim_server.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path

from fim_model.requests import MODES

from fim_server.backends.templates import TEMPLATES
from fim_server.commands.bench_options import add_device_benches
from fim_server.commands.bench_options import positive as _positive
from fim_server.commands.usage_error import UsageError
from fim_server.settings.settings import Settings


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
    _add_eval(commands)
    _add_bench(commands)
    _add_doctor(commands)
    _add_stats(commands)
    _add_models(commands)
    return parser


Commands = argparse._SubParsersAction


def _add_lsp(commands: Commands[argparse.ArgumentParser]) -> None:
    lsp = commands.add_parser("lsp", help="serve an editor on stdin and stdout")
    lsp.add_argument("--stdio", action="store_true", help="accepted for editors that pass it")
    lsp.add_argument(
        "--in-process",
        action="store_true",
        help="load the model into this process instead of sharing the engine's",
    )
    lsp.set_defaults(run=_lsp)


def _add_engine(commands: Commands[argparse.ArgumentParser]) -> None:
    engine = commands.add_parser("engine", help="serve the model to all editors of this user")
    engine.add_argument("--model", metavar="ID_OR_PATH", help="default: the model that ships")
    engine.add_argument("--threads", type=_positive, metavar="N", help="CPU threads")
    engine.add_argument(
        "--tcp",
        type=_port,
        metavar="PORT",
        help="serve on 127.0.0.1 instead of the user's socket; clients send the bearer token that "
        "is kept in a file only the user can read",
    )
    engine.add_argument(
        "--idle-minutes", type=_minutes, metavar="N", help="leave after so long without a request"
    )
    engine.add_argument(
        "--cache-mb",
        type=_positive,
        metavar="N",
        help="memory for the kept keys and values of documents (default: 512)",
    )
    engine.add_argument(
        "--at-once",
        type=_positive,
        metavar="N",
        help="requests of different sessions that share their forwards (default: 4)",
    )
    engine.add_argument("--verbose", action="store_true", help="log more than warnings")
    engine.set_defaults(run=_engine)


def _add_complete(commands: Commands[argparse.ArgumentParser]) -> None:
    complete = commands.add_parser("complete", help="fill the hole at a position of a file")
    _add_place(complete)
    _add_model_options(complete, mode=None)
    complete.add_argument("--alternatives", type=_positive, default=1, metavar="N")
    complete.add_argument("--max-tokens", type=_positive)
    complete.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    complete.add_argument("--seed", type=int, default=0)
    output = complete.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout")
    output.add_argument("--watch", action="store_true", help="show the hole as it is denoised")
    complete.set_defaults(run=_complete)


def _add_edit(commands: Commands[argparse.ArgumentParser]) -> None:
    edit = commands.add_parser("edit", help="the edits that follow from those of a patch")
    edit.add_argument("file", type=Path)
    edit.add_argument(
        "--history",
        type=Path,
        required=True,
        metavar="PATCH",
        help="a unified diff of edits that were made already, - for stdin",
    )
    _add_loading_options(edit)
    edit.add_argument("--json", action="store_true", help="one JSON object on stdout")
    edit.set_defaults(run=_lazily("edit", "edit"))


def _add_revise(commands: Commands[argparse.ArgumentParser]) -> None:
    revise = commands.add_parser("revise", help="what the model would make of some lines")
    revise.add_argument("file", type=Path)
    revise.add_argument("--lines", required=True, metavar="A-B", help="counted from 1, inclusive")
    _add_loading_options(revise)
    output = revise.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout")
    output.add_argument("--watch", action="store_true", help="show tokens masked and filled again")
    revise.set_defaults(run=_lazily("edit", "revise"))


def _add_context(commands: Commands[argparse.ArgumentParser]) -> None:
    context = commands.add_parser("context", help="what the model would see at a position, and why")
    _add_place(context)
    context.add_argument("--snippets", type=_positive, metavar="N", help="pieces of other files")
    context.add_argument(
        "--tokens", action="store_true", help="also the prompt in the model's own tokens"
    )
    context.add_argument("--model", metavar="ID_OR_PATH", help="the model, for --tokens")
    context.add_argument("--json", action="store_true", help="one JSON object on stdout")
    context.set_defaults(run=_context)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("--line", type=int, required=True, help="counted from 1")
    parser.add_argument("--column", type=int, required=True, help="characters, counted from 0")
    parser.add_argument(
        "--open", type=Path, nargs="+", default=[], metavar="FILE", help="files open beside it"
    )


def _add_eval(commands: Commands[argparse.ArgumentParser]) -> None:
    kinds = commands.add_parser("eval", help="measure quality").add_subparsers(
        metavar="BENCHMARK", required=True
    )
    humaneval = kinds.add_parser("humaneval-infilling", help="runs the problems' own tests")
    humaneval.add_argument("--data", type=Path, required=True, help="FILE.jsonl.gz")
    humaneval.add_argument("--limit", type=_positive, metavar="N", help="an evenly spread sample")
    humaneval.add_argument("--seed", type=int, default=0)
    _add_model_options(humaneval)
    humaneval.add_argument("--json", action="store_true", help="one JSON object on stdout")
    humaneval.set_defaults(run=_humaneval)

    edits = kinds.add_parser("edits", help="next edits in sessions whose outcome is known")
    edits.add_argument("--data", type=Path, required=True, help="heldout.jsonl.gz of the corpus")
    edits.add_argument("--per-kind", type=_positive, default=50, metavar="N", help="sessions")
    edits.add_argument("--min-gain", type=float, default=Settings().min_edit_gain, metavar="NATS")
    edits.add_argument("--seed", type=int, default=0)
    edits.add_argument(
        "--sweep",
        action="store_true",
        help="find the priors of edits, with the other half of projects",
    )
    edits.add_argument(
        "--write", action="store_true", help="keep what --sweep finds in the checkpoint folder"
    )
    _add_loading_options(edits)
    edits.add_argument("--json", action="store_true", help="one JSON object on stdout")
    edits.set_defaults(run=_lazily("evaluate", "edits"))


def _add_bench(commands: Commands[argparse.ArgumentParser]) -> None:
    kinds = commands.add_parser("bench", help="measure speed and memory").add_subparsers(
        metavar="BENCHMARK", required=True
    )
    latency = kinds.add_parser("latency", help="cold and warm completions in every mode")
    latency.add_argument("--samples", type=_positive, default=20, metavar="N")
    latency.add_argument("--model", metavar="ID_OR_PATH")
    latency.add_argument("--threads", type=_positive, metavar="N")
    latency.add_argument("--json", action="store_true", help="one JSON object on stdout")
    latency.set_defaults(run=_bench_latency)

    modes = kinds.add_parser("modes", help="quality and speed of every mode; sets --mode auto")
    modes.add_argument("--data", type=Path, required=True, help="HumanEval-Infilling FILE.jsonl.gz")
    modes.add_argument("--limit", type=_positive, metavar="N", help="an evenly spread sample")
    modes.add_argument("--picture", type=Path, metavar="FILE.svg", help="quality against latency")
    modes.add_argument("--model", metavar="ID_OR_PATH")
    modes.add_argument("--threads", type=_positive, metavar="N")
    modes.add_argument("--json", action="store_true", help="one JSON object on stdout")
    modes.set_defaults(run=_bench_modes)

    typing = kinds.add_parser("typing", help="keystroke to answer, against no reuse")
    typing.add_argument("--sessions", type=_positive, default=5, metavar="N", help="places")
    typing.add_argument("--characters", type=_positive, default=200, metavar="N", help="at each")
    typing.add_argument("--seed", type=int, default=0)
    typing.add_argument(
        "--large",
        action="store_true",
        help="in 50,000 lines and in a line of 1 MiB instead, with and without the model",
    )
    typing.add_argument("--against", metavar="URL", help="an OpenAI-compatible server, as …/v1")
    typing.add_argument("--against-model", metavar="NAME", help="its model; default: its first")
    typing.add_argument(
        "--against-template",
        choices=tuple(TEMPLATES),
        help="how its model is shown a hole; default: the server decides",
    )
    _add_typing_options(typing)
    typing.set_defaults(run=_bench_typing)

    soak = kinds.add_parser("soak", help="many sessions at one engine: errors, queue, memory")
    soak.add_argument("--sessions", type=_positive, default=16, metavar="N")
    soak.add_argument("--seconds", type=_positive, default=120, metavar="N")
    soak.add_argument(
        "--characters", type=_positive, default=200, metavar="N", help="of a session in a round"
    )
    soak.add_argument(
        "--kill",
        action="store_true",
        help="then kill the engine in mid-request and time how long until it serves again",
    )
    _add_typing_options(soak)
    soak.set_defaults(run=_bench_soak)

    add_device_benches(kinds)


def _add_typing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_rate, default=8.0, help="keys a second; 0 waits each time")
    _add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_models(commands: Commands[argparse.ArgumentParser]) -> None:
    kinds = commands.add_parser("models", help="look at checkpoints").add_subparsers(
        metavar="ACTION", required=True
    )
    inspect = kinds.add_parser("inspect", help="family, sizes and modes, without loading weights")
    inspect.add_argument("model", metavar="ID_OR_PATH")
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")
    inspect.set_defaults(run=_inspect_model)


def _add_doctor(commands: Commands[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="what works here, what does not, and the fix")
    doctor.add_argument("--json", action="store_true", help="one JSON object on stdout")
    doctor.set_defaults(run=_doctor)


def _add_stats(commands: Commands[argparse.ArgumentParser]) -> None:
    stats = commands.add_parser("stats", help="what was suggested and accepted on this machine")
    stats.add_argument("--json", action="store_true", help="one JSON object on stdout")
    stats.set_defaults(run=_stats)


def _add_model_options(parser: argparse.ArgumentParser, mode: str | None = Settings().mode) -> None:
    parser.add_argument("--mode", choices=MODES, default=mode)
    _add_loading_options(parser)


def _add_loading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="ID_OR_PATH", help="default: the model that ships")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads")


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port number")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to 100 keys a second")
    return number


def _minutes(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _lazily(module: str, command: str) -> Callable[[argparse.Namespace], int]:
    """A command whose module is imported when it is run."""

    def run(arguments: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"fim_server.commands.{module}"), command)(arguments)
        return code

    return run


def _lsp(arguments: argparse.Namespace) -> int:
    from fim_server.lsp.app import run_stdio

    options = {"backend": "in_process"} if arguments.in_process else {}
    return run_stdio(Settings(), command_line=options)


def _engine(arguments: argparse.Namespace) -> int:
    from fim_server.commands import engine

    return engine.run(arguments)


def _complete(arguments: argparse.Namespace) -> int:
    from fim_server.commands import complete

    return complete.run(arguments)


def _context(arguments: argparse.Namespace) -> int:
    from fim_server.commands import context

    return context.run(arguments)


def _humaneval(arguments: argparse.Namespace) -> int:
    from fim_server.commands import evaluate

    return evaluate.humaneval_infilling(arguments)


def _bench_latency(arguments: argparse.Namespace) -> int:
    from fim_server.commands import bench

    return bench.latency(arguments)


def _bench_modes(arguments: argparse.Namespace) -> int:
    from fim_server.commands import bench

    return bench.modes(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from fim_server.commands import doctor

    return doctor.run(arguments)


def _stats(arguments: argparse.Namespace) -> int:
    from fim_server.commands import stats

    return stats.run(arguments)


def _inspect_model(arguments: argparse.Namespace) -> int:
    from fim_server.commands import models

    return models.inspect(arguments)


def _bench_typing(arguments: argparse.Namespace) -> int:
    from fim_server.commands import bench

    return bench.typing(arguments)


def _bench_soak(arguments: argparse.Namespace) -> int:
    from fim_server.commands import bench

    return bench.soak(arguments)
