"""Device, dtype and memory checks before a model is loaded."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import psutil
import torch
from fim_kernels.dispatch import KernelError, use_triton

from fim_model.errors import CheckpointError
from fim_model.loading.headers import kv_values, parameter_count
from fim_model.network.choice import Weights
from fim_model.network.config import ModelConfig


def default_device() -> str:
    """`cuda` where there is a device, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """bfloat16 on CUDA; float32 on a CPU, where AR and verified drafts then agree exactly."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def default_weights(*, stored_int8: bool = False) -> Weights:
    """`FIM_WEIGHTS`, or int8 if the weights are stored so (`stored_int8`) and full if not: int8 is
    faster on a CPU, but its loss of quality differs by model. Raises CheckpointError for an
    unknown value."""
    asked = os.environ.get("FIM_WEIGHTS", "") or ("int8" if stored_int8 else "full")
    if asked not in ("full", "int8"):
        raise CheckpointError(f"FIM_WEIGHTS={asked} is unknown; use 'full' or 'int8'")
    return "int8" if asked == "int8" else "full"


def check_kernels(device: str) -> None:
    """Raise CheckpointError, before anything is read, if FIM_KERNELS forces what cannot run."""
    try:
        use_triton(torch.empty(0, device=device))
    except KernelError as forced:
        raise CheckpointError(str(forced)) from None


def available_bytes(device: str) -> int:
    """Free memory of the device; for the CPU, what the system can give without swapping."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free)
    return int(psutil.virtual_memory().available)


def return_freed_memory() -> None:
    """Give the system back what loading has freed: glibc keeps it (70 MB of 460 at 135 M
    parameters), other C libraries do not."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def check_memory(
    config: ModelConfig,
    dtype: torch.dtype,
    device: str,
    folder: Path,
    *,
    kv_tokens: int = 0,
    bytes_each: int | None = None,
) -> None:
    """Raise CheckpointError if weights and KV cache exceed the device's free memory.

    bytes_each: of a weight, None for the dtype's.
    """
    weights = parameter_count(config) * (bytes_each or dtype.itemsize)
    keys = kv_values(config) * kv_tokens * dtype.itemsize
    free = available_bytes(device)
    if weights + keys > free:
        smaller = ", load it in bfloat16" if dtype.itemsize == 4 else ""
        raise CheckpointError(
            f"{folder}: the model needs {gib(weights + keys)} in "
            f"{str(dtype).removeprefix('torch.')} ({gib(keys)} of it for the keys of {kv_tokens} "
            f"tokens), {device} has {gib(free)} free; choose a smaller model{smaller} or another "
            "device"
        )


def gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
