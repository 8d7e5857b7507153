"""Timing on a device, and the device's measured peaks: a large copy and a large matrix product.

Benchmarks report shares of the peaks measured in the same run instead of data-sheet peaks, so
clocks, virtualisation and other load cancel out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from fim_kernels.matmul_packed import matmul_packed, pack

FLUSH_BYTES = 512 * 2**20
"""Written before every timed run on a GPU, to evict its L2 cache."""


@dataclass(frozen=True, slots=True)
class Roof:
    """bytes_per_s: read plus written by a large copy. flop_per_s: reached by a large product."""

    bytes_per_s: float
    flop_per_s: float

    def floor_ms(self, moved: float, flops: float) -> float:
        """Lower bound in ms for work that moves `moved` bytes and computes `flops` operations."""
        return 1e3 * max(moved / self.bytes_per_s, flops / self.flop_per_s)


class Stopwatch:
    """Measures the median run time of functions on one device."""

    def __init__(self, device: torch.device, *, budget_s: float = 0.5, limit: int = 100) -> None:
        self.device, self.budget_s, self.limit = device, budget_s, limit
        self._flush: torch.Tensor | None = None

    @torch.inference_mode()
    def median_ms(self, run: Callable[[], object]) -> float:
        """Median ms of 3 to `limit` runs within about `budget_s` seconds, after 2 warm-ups."""
        time_run = self._gpu_ms if self.device.type == "cuda" else _cpu_ms
        for _ in range(2):
            run()
        samples: list[float] = []
        start = time.perf_counter()
        while len(samples) < 3 or (
            len(samples) < self.limit and time.perf_counter() - start < self.budget_s
        ):
            samples.append(time_run(run))
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
    """Peak copy and matrix-product rates of the device, the product square and in `dtype`.

    Sizes are large enough to hide launch overhead. On a CPU the faster of `torch.matmul` and oneDNN
    counts, because on some CPUs they differ by a factor of two.
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
