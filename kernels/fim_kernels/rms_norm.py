"""Root-mean-square layer norm (Zhang & Sennrich, arXiv 1910.07467)."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension.

    x: `[..., D]`, any float dtype; weight: `[D]`. The mean is taken in float32 and the normalised
    value is rounded to x's dtype before the weight is applied, as Llama-family checkpoints expect.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale).to(x.dtype) * weight.to(x.dtype)
