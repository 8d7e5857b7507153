"""Root-mean-square layer norm (Zhang & Sennrich, arXiv 1910.07467), alone and after a residual.

`y = x / sqrt(mean(x^2) + eps) * weight` over the last dimension. Bytes moved: x once in, y once
out (with a residual: two in, two out); the weight stays in cache.
"""

from __future__ import annotations

from torch import Tensor

from fim_kernels.dispatch import use_triton


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: `[..., D]`, any float dtype; weight: `[D]`. Returns `[..., D]` in x's dtype.

    The mean is taken in float32 and the normalised value is rounded to x's dtype before the weight
    is applied, as Llama-family checkpoints expect.
    """
    if use_triton(x, weight):
        from fim_kernels.rms_norm_triton import rms_norm_triton

        return rms_norm_triton(x, None, weight, eps)[0]
    return rms_norm_reference(x, weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`s = x + residual`; returns `(rms_norm(s), s)`, both `[..., D]` in x's dtype.

    x, residual: `[..., D]` of one dtype. The sum is rounded to that dtype before it is normalised,
    so that the fused kernel sees what the next layer will see.
    """
    if use_triton(x, residual, weight):
        from fim_kernels.rms_norm_triton import rms_norm_triton

        return rms_norm_triton(x, residual, weight, eps)
    return add_rms_norm_reference(x, residual, weight, eps)


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (wide * scale).to(x.dtype) * weight.to(x.dtype)


def add_rms_norm_reference(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    total = x + residual
    return rms_norm_reference(total, weight, eps), total
