"""`fim-server bench kernels` and `bench forward`: how near the machine's limits the model runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from fim_server.commands.errors import UsageError

if TYPE_CHECKING:
    import torch

    from fim_server.bench.forward import ForwardReport
    from fim_server.bench.kernels import KernelReport

    Report = KernelReport | ForwardReport


def kernels(arguments: argparse.Namespace) -> int:
    def measure(device: torch.device, progress: Callable[[str], None]) -> Report:
        from fim_server.bench.kernels import bench_kernels
        from fim_server.bench.shapes import shape

        if arguments.width > arguments.context:
            raise ValueError(
                f"width {arguments.width} does not fit a context of {arguments.context}"
            )
        return bench_kernels(
            shape(arguments.shape), arguments.shape, width=arguments.width,
            context=arguments.context, device=device, progress=progress,
        )  # fmt: skip

    return _run(arguments, measure, f"{arguments.shape} kernels")


def forward(arguments: argparse.Namespace) -> int:
    def measure(device: torch.device, progress: Callable[[str], None]) -> Report:
        from fim_server.bench.forward import bench_forward
        from fim_server.bench.shapes import shape

        return bench_forward(
            shape(arguments.shape), arguments.shape, widths=arguments.width,
            contexts=arguments.context, dtype=arguments.dtype, against=arguments.against,
            device=device, progress=progress,
        )  # fmt: skip

    return _run(arguments, measure, f"{arguments.shape} forward, {arguments.dtype}")


def _run(
    arguments: argparse.Namespace,
    measure: Callable[[torch.device, Callable[[str], None]], Report],
    title: str,
) -> int:
    from rich.console import Console

    errors = Console(stderr=True)
    try:
        device = _device(arguments)
        from fim_server.bench.roofline import roofline

        with errors.status("measuring") as status:
            report = measure(device, lambda what: status.update(f"measuring: {what}"))
    except ImportError as missing:
        raise UsageError(
            f"this benchmark needs the module {missing.name}: pip install 'fim-server[local,test]'"
        ) from missing
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    if arguments.picture:
        picture = roofline(report.as_works(), report.roof, f"{title}, {report.device}")
        arguments.picture.write_text(picture, encoding="utf-8")
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        Console().print(report.as_table())
    return 0


def _device(arguments: argparse.Namespace) -> torch.device:
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; leave it out to use the CPU")
    return torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
