"""The one rule for which implementation of an operation runs.

Triton on CUDA tensors, the PyTorch reference everywhere else. `FIM_KERNELS=reference` or `=triton`
forces one; a forced implementation that cannot run is an error, never a silent fallback. Kernels
have no backward, so a tensor that needs a gradient goes to the reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Floating point types that the kernels take."""


class KernelError(RuntimeError):
    """A forced implementation cannot run, or FIM_KERNELS is unknown; one line with what to do."""


def use_triton(*tensors: Tensor) -> bool:
    """Whether the operation over these tensors runs its Triton kernel. Raises KernelError."""
    forced = os.environ.get("FIM_KERNELS", "")
    if forced not in ("", "reference", "triton"):
        raise KernelError(f"FIM_KERNELS={forced} is unknown; use 'reference' or 'triton'")
    if forced == "reference" or not (forced or tensors[0].is_cuda):
        return False
    obstacle = _obstacle(tensors)
    if forced and obstacle:
        raise KernelError(f"FIM_KERNELS=triton cannot run: {obstacle}")
    return obstacle is None


def forced_reference() -> bool:
    """Whether only references may run."""
    return os.environ.get("FIM_KERNELS") == "reference"


@contextmanager
def references_alone() -> Iterator[None]:
    """Inside, only references run, in the whole process; then what was forced before."""
    before = os.environ.get("FIM_KERNELS")
    os.environ["FIM_KERNELS"] = "reference"
    try:
        yield
    finally:
        del os.environ["FIM_KERNELS"]
        if before is not None:
            os.environ["FIM_KERNELS"] = before


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU (slow, for tests) instead of compiling them."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def multiprocessors(device: torch.device) -> int:
    """How many thread blocks the device works on at once; 1 where it is not a GPU."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _obstacle(tensors: tuple[Tensor, ...]) -> str | None:
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        return f"the tensors are on several devices: {', '.join(sorted(map(str, devices)))}"
    if not (tensors[0].is_cuda or interpreted()):
        return f"the tensors are on {tensors[0].device}; kernels need CUDA (or TRITON_INTERPRET=1)"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "a tensor needs a gradient and the kernels have no backward; use torch.no_grad()"
    unfit = {t.dtype for t in tensors if t.is_floating_point() and t.dtype not in DTYPES}
    if unfit - EIGHT_BIT_FLOATS:
        return f"no kernel takes {', '.join(sorted(map(str, unfit)))}"
    if find_spec("triton") is None:
        return "Triton is not installed: pip install 'fim-server[gpu]'"
    return None


EIGHT_BIT_FLOATS = {torch.float8_e4m3fn}
"""Storage types of quantised weights; only matmul_8bit sees them."""
