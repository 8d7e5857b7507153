"""Options of the benchmarks that need no checkpoint: operations, forwards, completions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fim_server.commands import bench_device

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

RIVALS = ("eager", "compiled", "transformers")
SHAPES = ("nld-3b", "nld-8b", "nld-14b", "default")
DTYPES = ("f32", "bf16", "fp8", "int8")


def add_device_benches(kinds: Commands) -> None:
    """`bench kernels`, `bench forward` and `bench completion`."""
    kernels = kinds.add_parser("kernels", help="each operation against the machine's limits")
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
    completion.add_argument("--tokens", type=positive, default=32, metavar="N", help="of the hole")
    completion.add_argument(
        "--dtype",
        choices=("f32", "bf16", "int8"),
        help="of the weights; default: bf16 on a GPU, f32 on a CPU",
    )
    completion.set_defaults(run=bench_device.completion)


def _add_device_options(parser: argparse.ArgumentParser, *, picture: bool) -> None:
    parser.add_argument("--shape", choices=SHAPES, default="default")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: a GPU if there is one")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads")
    if picture:
        parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="the roofline")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
