"""Where a test runs: on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch

ON_GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)
CPU_AND_GPU = ("cpu", pytest.param("cuda", marks=ON_GPU))
