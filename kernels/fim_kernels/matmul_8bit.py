"""Product with 8-bit weights for narrow inputs: the weights are what is read, so halve them.

`y = (x @ values^T) * scale`, one scale an output channel; activations keep their precision
(dynamic int8 activations lose more time than they win at batch 1 on a GPU). Bytes moved: `N * K`
for the weight, against `2 * N * K` in bfloat16. Pays while the product is bound by memory, up to
about a hundred rows; wider inputs (a prefill) are cheaper through `dequantise` and cuBLAS.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fim_kernels.dispatch import use_triton

STORAGE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""Storage types and the largest magnitude each holds."""


@dataclass(frozen=True, slots=True)
class Weight8Bit:
    """values: int8 or float8_e4m3fn `[N, K]`, rows contiguous; scale: float32 `[N]`."""

    values: Tensor
    scale: Tensor

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """`[N, K]` in `dtype`."""
        return (self.values.to(torch.float32) * self.scale[:, None]).to(dtype)


def quantise(weight: Tensor, storage: torch.dtype = torch.int8) -> Weight8Bit:
    """Symmetric, one scale a row: `scale = max|w| / largest`, `values = w / scale` rounded.

    weight: `[N, K]`, any float dtype. A row of zeros stays zeros.
    """
    if storage not in STORAGE:
        known = ", ".join(map(str, STORAGE))
        raise ValueError(f"weights can be stored as {known}, not {storage}")
    wide = weight.float()
    scale = wide.abs().amax(1) / STORAGE[storage]
    scaled = wide / torch.where(scale == 0, 1.0, scale)[:, None]
    if storage is torch.int8:
        scaled = scaled.round()
    return Weight8Bit(scaled.to(storage), scale)


def matmul_8bit(x: Tensor, weight: Weight8Bit) -> Tensor:
    """x: `[..., K]`, float32, bfloat16 or float16. Returns `[..., N]` in x's dtype.

    Accumulated in float32, scaled there, rounded once.
    """
    if use_triton(x, weight.values, weight.scale):
        from fim_kernels.matmul_8bit_triton import matmul_8bit_triton

        return matmul_8bit_triton(x, weight)
    return matmul_8bit_reference(x, weight)


def matmul_8bit_reference(x: Tensor, weight: Weight8Bit) -> Tensor:
    return (x.float() @ weight.values.float().T * weight.scale).to(x.dtype)
