"""Gated activation of the feed-forward layer (Shazeer, arXiv 2002.05202).

`y = silu(gate) * up`, `silu(g) = g / (1 + exp(-g))`. Bytes moved: two tensors in, one out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fim_kernels.dispatch import use_triton


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: `[..., D]` of one dtype, possibly the halves of one tensor. Returns `[..., D]`."""
    if use_triton(gate, up):
        from fim_kernels.swiglu_triton import swiglu_triton

        return swiglu_triton(gate, up)
    return swiglu_reference(gate, up)


def swiglu_reference(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up
