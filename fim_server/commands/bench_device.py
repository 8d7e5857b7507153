"""`fim-server bench kernels | forward | completion`: model speed against the machine's roofline."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from fim_server.bench.decoding import CompletionBenchReport
    from fim_server.bench.forward import ForwardReport
    from fim_server.bench.kernels import KernelReport

    Report = KernelReport | ForwardReport


class _Printable(Protocol):
    def as_json(self) -> dict[str, Any]: ...
    def as_table(self) -> Table: ...


R = TypeVar("R", bound=_Printable)


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
            contexts=arguments.context, dtype=_dtype(arguments, device),
            against=arguments.against,
            device=device, progress=progress,
        )  # fmt: skip

    return _run(arguments, measure, f"{arguments.shape} forward")


def completion(arguments: argparse.Namespace) -> int:
    def measure(device: torch.device, progress: Callable[[str], None]) -> CompletionBenchReport:
        from fim_server.bench.decoding import bench_completion
        from fim_server.bench.shapes import shape

        return bench_completion(
            shape(arguments.shape), arguments.shape, context=arguments.context,
            tokens=arguments.tokens, dtype=_dtype(arguments, device), device=device,
            progress=progress,
        )  # fmt: skip

    _measured(arguments, measure)
    return 0


def _run(
    arguments: argparse.Namespace,
    measure: Callable[[torch.device, Callable[[str], None]], Report],
    title: str,
) -> int:
    report = _measured(arguments, measure)
    if arguments.picture:
        from fim_server.bench.roofline import roofline

        picture = roofline(report.as_works(), report.roof, f"{title}, {report.device}")
        arguments.picture.write_text(picture, encoding="utf-8")
    return 0


def _measured(
    arguments: argparse.Namespace, measure: Callable[[torch.device, Callable[[str], None]], R]
) -> R:
    """Measure, print the report and return it. Raises UsageError if this machine cannot run it."""
    from rich.console import Console

    errors = Console(stderr=True)
    try:
        device = _device(arguments)
        with errors.status("measuring") as status:
            report = measure(device, lambda what: status.update(f"measuring: {what}"))
    except ImportError as missing:
        raise UsageError(
            f"this benchmark needs the module {missing.name}: pip install 'fim-server[local,test]'"
        ) from missing
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        Console().print(report.as_table())
    return report


def _dtype(arguments: argparse.Namespace, device: torch.device) -> str:
    return arguments.dtype or ("f32" if device.type == "cpu" else "bf16")


def _device(arguments: argparse.Namespace) -> torch.device:
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; omit the option to use the CPU")
    return torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
