"""Gated activation of the feed-forward layer (Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up`; both `[..., D]` of one dtype."""
    return F.silu(gate) * up
