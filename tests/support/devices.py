"""Devices that tests run on: a CPU, a simulated GPU, and a real GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from stand_in_gpu import stand_in_gpu

ON_GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)
STAND_IN = "stand-in"
DEVICES = ("cpu", STAND_IN, pytest.param("cuda", marks=ON_GPU))


@contextmanager
def usable(device: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make one of `DEVICES` usable in the context. On the simulated GPU the operations are
    references, because interpreted kernels take seconds per forward (for those see
    `test_gpu_path.py`).
    """
    if device != STAND_IN:
        yield device
        return
    patch.setenv("FIM_KERNELS", "reference")
    with stand_in_gpu(patch):
        yield "cuda"
