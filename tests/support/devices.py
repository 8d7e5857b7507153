"""Where a test runs: a CPU, a stand-in that has the rules of a GPU, and a GPU if there is one."""

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
    """One of `DEVICES`, for torch while inside. On the stand-in operations are the references:
    interpreted kernels take seconds a forward (`test_gpu_path.py` has them)."""
    if device != STAND_IN:
        yield device
        return
    patch.setenv("FIM_KERNELS", "reference")
    with stand_in_gpu(patch):
        yield "cuda"
