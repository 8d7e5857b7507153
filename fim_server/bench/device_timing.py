"""Timing on a device, and what that device reaches at best: a large copy and a large product.

Figures are shares of what the same run reached, not of a data sheet: clocks, virtualisation and
neighbours then cancel out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from fim_kernels.matmul_packed import matmul_packed, pack

FLUSH_BYTES = 512 * 2**20
"""Written before every timed run on a GPU, so that nothing is found in its cache."""


@dataclass(frozen=True, slots=True)
class Roof:
    """bytes_per_s: read plus written by a large copy; flop_per_s: of a large product."""

    bytes_per_s: float
    flop_per_s: float

    def floor_ms(self, moved: float, flops: float) -> float:
        """The time in which nothing that moves and computes this much can be beaten."""
        return 1e3 * max(moved / self.bytes_per_s, flops / self.flop_per_s)


class Stopwatch:
    """Median times of a function on one device."""

    def __init__(self, device: torch.device, *, budget_s: float = 0.5, most: int = 100) -> None:
        self.device, self.budget_s, self.most = device, budget_s, most
        self._flush: torch.Tensor | None = None

    @torch.inference_mode()
    def median_ms(self, run: Callable[[], object]) -> float:
        """At least 3 and at most `most` runs within about `budget_s`, after two that compile."""
        once = self._gpu_ms if self.device.type == "cuda" else _cpu_ms
        for _ in range(2):
            run()
        samples: list[float] = []
        start = time.perf_counter()
        while len(samples) < 3 or (
            len(samples) < self.most and time.perf_counter() - start < self.budget_s
        ):
            samples.append(once(run))
        return median(samples)

    def _gpu_ms(self, run: Callable[[], object]) -> float:
        if self._flush is None:
            self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=self.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        before.record()
        run()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after))


def measure_roof(watch: Stopwatch, dtype: torch.dtype) -> Roof:
    """The product is square and in `dtype`; sizes are chosen so that launches do not show.

    A CPU's is the quicker one of PyTorch's own and oneDNN's, which differ by a factor on some.
    """
    gpu = watch.device.type == "cuda"
    source = torch.ones(2**30 if gpu else 2**27, dtype=torch.int8, device=watch.device)
    target = torch.empty_like(source)
    copy_ms = watch.median_ms(lambda: target.copy_(source))
    size = 8192 if gpu else 1024
    left, right = (torch.ones(size, size, dtype=dtype, device=watch.device) for _ in range(2))
    packed = pack(right)
    product_ms = min(
        watch.median_ms(lambda: left @ right), watch.median_ms(lambda: matmul_packed(left, packed))
    )
    return Roof(2 * source.numel() / copy_ms * 1e3, 2 * size**3 / product_ms * 1e3)


def _cpu_ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
