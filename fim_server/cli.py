"""`fim-server`: the command line. Parses, then hands over to a module of `fim_server.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from fim_server.backends.base import MODES
from fim_server.commands.errors import UsageError
from fim_server.settings import Settings


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
    _add_complete(commands)
    _add_context(commands)
    _add_eval(commands)
    _add_bench(commands)
    _add_doctor(commands)
    _add_stats(commands)
    return parser


Commands = argparse._SubParsersAction


def _add_lsp(commands: Commands[argparse.ArgumentParser]) -> None:
    lsp = commands.add_parser("lsp", help="serve an editor on stdin and stdout")
    lsp.add_argument("--stdio", action="store_true", help="accepted for editors that pass it")
    lsp.set_defaults(run=_lsp)


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
    parser.add_argument("--model", metavar="ID_OR_PATH", help="default: the model that ships")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _lsp(arguments: argparse.Namespace) -> int:
    from fim_server.lsp import run_stdio

    return run_stdio(Settings())


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
