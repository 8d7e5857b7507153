"""Rotary position embedding, half-split layout (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs `(x[i], x[i + D/2])` by the angle of their position.

    x: `[B, H, T, D]`; cos, sin: `[B, T, D]` in x's dtype (the angles of the first half repeated).
    """
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.unsqueeze(1) + rotated * sin.unsqueeze(1)
