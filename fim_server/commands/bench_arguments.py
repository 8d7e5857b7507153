"""The arguments of `fim-server bench` and `fim-server eval`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fim_model.requests import MODES

from fim_server.backends.templates import TEMPLATES
from fim_server.commands import bench_device
from fim_server.commands.arguments import (
    Commands,
    add_loading_options,
    add_model_options,
    lazily,
    measuring,
    positive,
)
from fim_server.settings.settings import Settings

RIVALS = ("eager", "compiled", "transformers")
SHAPES = ("nld-3b", "nld-8b", "nld-14b", "default")
DTYPES = ("f32", "bf16", "fp8", "int8")


def add_eval(commands: Commands) -> None:
    kinds = commands.add_parser("eval", help="measure quality").add_subparsers(
        metavar="BENCHMARK", required=True
    )
    humaneval = kinds.add_parser("humaneval-infilling", help="runs the problems' own tests")
    humaneval.add_argument("--data", type=Path, required=True, help="FILE.jsonl.gz")
    humaneval.add_argument("--limit", type=positive, metavar="N", help="an evenly spread sample")
    humaneval.add_argument("--seed", type=int, default=0)
    add_model_options(humaneval)
    humaneval.add_argument("--json", action="store_true", help="one JSON object on stdout")
    humaneval.set_defaults(run=measuring("eval_humaneval", "run"))

    edits = kinds.add_parser("edits", help="next edits in replayed commits, or made-up sessions")
    source = edits.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--git", type=Path, nargs="+", metavar="CLONE", help="clones whose commits are replayed"
    )
    source.add_argument("--data", type=Path, help="heldout.jsonl.gz of the corpus")
    edits.add_argument(
        "--commits", type=positive, default=100, metavar="N", help="at most, of each clone"
    )
    edits.add_argument(
        "--with-model", action="store_true", help="let the model judge what --git replays"
    )
    edits.add_argument("--per-kind", type=positive, default=50, metavar="N", help="sessions")
    edits.add_argument("--min-gain", type=float, default=Settings().min_edit_gain, metavar="NATS")
    edits.add_argument("--seed", type=int, default=0)
    edits.add_argument(
        "--fit",
        action="store_true",
        help="fit the rules' score on the clones; with --with-model, what the model adds to it",
    )
    edits.add_argument(
        "--write",
        action="store_true",
        help="write what --fit found: score.json, or edit_priors.json of the checkpoint",
    )
    edits.add_argument(
        "--misses",
        type=positive,
        metavar="N",
        help="how far the hunks of --git came that followed, and N missed ones to read",
    )
    add_loading_options(edits)
    edits.add_argument("--json", action="store_true", help="one JSON object on stdout")
    edits.set_defaults(run=measuring("eval_edits", "run"))

    gate = kinds.add_parser(
        "gate", help="calibrates a checkpoint: which suggestions are shown unasked, how sure"
    )
    gate.add_argument("--data", type=Path, required=True, help="heldout.jsonl.gz of the corpus")
    gate.add_argument("--model", metavar="FOLDER", help="a checkpoint (default: what ships)")
    gate.add_argument("--mode", choices=MODES, default="ar", help="how the model fills holes")
    gate.add_argument(
        "--per-kind", type=positive, default=300, metavar="N", help="holes of each one-line kind"
    )
    gate.add_argument("--seed", type=int, default=1, help="of the drawn holes")
    gate.add_argument("--threads", type=positive, metavar="N")
    gate.add_argument(
        "--answers",
        type=Path,
        metavar="FILE.jsonl",
        help="keeps the model's answers here; holes that it has already are not asked again",
    )
    gate.add_argument("--write", action="store_true", help="write the checkpoint's calibration")
    gate.add_argument("--json", action="store_true", help="one JSON object on stdout")
    gate.set_defaults(run=measuring("eval_gate", "run"))


def add_bench(commands: Commands) -> None:
    kinds = commands.add_parser("bench", help="measure speed and memory").add_subparsers(
        metavar="BENCHMARK", required=True
    )
    latency = kinds.add_parser("latency", help="cold and warm completions in every mode")
    latency.add_argument("--samples", type=positive, default=20, metavar="N")
    latency.add_argument("--model", metavar="ID_OR_PATH")
    latency.add_argument("--threads", type=positive, metavar="N")
    latency.add_argument("--json", action="store_true", help="one JSON object on stdout")
    latency.set_defaults(run=measuring("bench_latency", "run"))

    startup = kinds.add_parser(
        "startup", help="from the start of the server to the answer to initialize, and its imports"
    )
    startup.add_argument("--starts", type=positive, default=15, metavar="N")
    startup.add_argument("--json", action="store_true", help="one JSON object on stdout")
    startup.set_defaults(run=lazily("bench_startup", "run"))

    modes = kinds.add_parser("modes", help="quality and speed of every mode; sets --mode auto")
    modes.add_argument("--data", type=Path, required=True, help="HumanEval-Infilling FILE.jsonl.gz")
    modes.add_argument("--limit", type=positive, metavar="N", help="an evenly spread sample")
    modes.add_argument("--picture", type=Path, metavar="FILE.svg", help="quality against latency")
    modes.add_argument("--model", metavar="ID_OR_PATH")
    modes.add_argument("--threads", type=positive, metavar="N")
    modes.add_argument("--json", action="store_true", help="one JSON object on stdout")
    modes.set_defaults(run=measuring("bench_modes", "run"))

    typing = kinds.add_parser("typing", help="keystroke-to-answer latency, with and without reuse")
    typing.add_argument("--sessions", type=positive, default=5, metavar="N", help="documents")
    typing.add_argument(
        "--characters", type=positive, default=200, metavar="N", help="typed in each"
    )
    typing.add_argument("--seed", type=int, default=0)
    typing.add_argument(
        "--large",
        action="store_true",
        help="type in 50,000 lines and in a line of 1 MiB instead, with and without the model",
    )
    typing.add_argument(
        "--against",
        metavar="URL",
        help="also measure an OpenAI-compatible server (http://HOST:PORT/v1)",
    )
    typing.add_argument("--against-model", metavar="NAME", help="its model; default: its first")
    typing.add_argument(
        "--against-template",
        choices=tuple(TEMPLATES),
        help="FIM template of its model; default: the server decides",
    )
    _add_typing_options(typing)
    typing.set_defaults(run=measuring("bench_typing", "run"))

    soak = kinds.add_parser("soak", help="many sessions at one engine: errors, queue, memory")
    soak.add_argument("--sessions", type=positive, default=16, metavar="N")
    soak.add_argument("--seconds", type=positive, default=120, metavar="N")
    soak.add_argument(
        "--characters", type=positive, default=200, metavar="N", help="typed in each document"
    )
    soak.add_argument(
        "--kill",
        action="store_true",
        help="finally kill the engine during a request and measure the time to recovery",
    )
    _add_typing_options(soak)
    soak.set_defaults(run=measuring("bench_soak", "run"))

    peers = kinds.add_parser("peers", help="this engine and llama.cpp on the same weights")
    peers.add_argument("--samples", type=positive, default=20, metavar="N", help="holes")
    peers.add_argument(
        "--model", metavar="PATH", help="checkpoint folder; default: the shipped one"
    )
    peers.add_argument("--threads", type=positive, metavar="N", help="of both; default: all cores")
    peers.add_argument(
        "--weights", choices=("full", "int8"), help="of this engine; default: its own choice"
    )
    peers.add_argument(
        "--peer-dtype",
        choices=("q8_0", "f16"),
        default="q8_0",
        help="of the GGUF file that llama.cpp runs (default: q8_0)",
    )
    peers.add_argument("--picture", type=Path, metavar="FILE.svg", help="cold against warm")
    peers.add_argument("--json", action="store_true", help="one JSON object on stdout")
    peers.set_defaults(run=measuring("bench_peers", "run"))

    add_device_benches(kinds)


def _add_typing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_rate, default=8.0, help="keys per second; 0 awaits answers")
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _rate(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100 keys per second")
    return number


def add_device_benches(kinds: Commands) -> None:
    """`bench kernels`, `bench forward` and `bench completion`."""
    kernels = kinds.add_parser("kernels", help="each operation against the machine's roofline")
    _add_device_options(kernels, picture=True)
    kernels.add_argument("--width", type=positive, default=32, metavar="N")
    kernels.add_argument("--context", type=positive, default=2048, metavar="N")
    kernels.set_defaults(run=bench_device.kernels)

    forward = kinds.add_parser("forward", help="one forward, ours and others', random weights")
    _add_device_options(forward, picture=True)
    forward.add_argument("--width", type=positive, nargs="+", default=[32], metavar="N")
    forward.add_argument("--context", type=positive, nargs="+", default=[2048], metavar="N")
    forward.add_argument(
        "--dtype",
        choices=DTYPES,
        help="of our weights; default: bf16 on a GPU, f32 on a CPU",
    )
    forward.add_argument(
        "--against", nargs="*", choices=RIVALS, default=RIVALS, help="default: all of them"
    )
    forward.set_defaults(run=bench_device.forward)

    completion = kinds.add_parser(
        "completion", help="a whole hole in every mode, cold and warm, random weights"
    )
    _add_device_options(completion, picture=False)
    completion.add_argument("--context", type=positive, default=2048, metavar="N")
    completion.add_argument("--tokens", type=positive, default=32, metavar="N", help="hole length")
    completion.add_argument(
        "--dtype",
        choices=("f32", "bf16", "int8"),
        help="of the weights; default: bf16 on a GPU, f32 on a CPU",
    )
    completion.set_defaults(run=bench_device.completion)


def _add_device_options(parser: argparse.ArgumentParser, *, picture: bool) -> None:
    parser.add_argument("--shape", choices=SHAPES, default="default")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: the GPU if available")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads")
    if picture:
        parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="the roofline")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
