"""Whether a model fits, asked before it is loaded."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from fim_model.config import ModelConfig
from fim_model.errors import CheckpointError
from fim_model.headers import parameter_count


def default_device() -> str:
    """A CUDA device where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """bfloat16 on CUDA; float32 on a CPU, where AR and verified drafts then agree exactly."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def available_bytes(device: str) -> int:
    """Free memory of the device; for the CPU, what the system can give without swapping."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free)
    return int(psutil.virtual_memory().available)


def check_memory(config: ModelConfig, dtype: torch.dtype, device: str, folder: Path) -> None:
    """Raises CheckpointError if the weights alone do not fit into the device's free memory."""
    needed, free = parameter_count(config) * dtype.itemsize, available_bytes(device)
    if needed > free:
        smaller = "" if dtype.itemsize < 4 else ", load it in bfloat16"
        raise CheckpointError(
            f"{folder}: the weights need {gib(needed)} in {str(dtype).removeprefix('torch.')}, "
            f"{device} has {gib(free)} free; choose a smaller model{smaller} or another device"
        )


def gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
