"""Product with 8-bit weights for narrow inputs, which are bound by reading the weights.

`y = (x @ values^T) * scale`, one scale an output channel; activations keep their precision
(quantising activations costs more time than it saves at batch 1 on a GPU). Bytes moved: `N * K`
for the weight, against `2 * N * K` in bfloat16. Pays while the product is bound by memory, up to
about a hundred rows; wider inputs (a prefill) are cheaper through `dequantise` and cuBLAS.

On a CPU int8 weights and bfloat16 inputs go to PyTorch's own kernel (AVX2, AVX-512, NEON): the same
formula, and each row's result does not depend on how many rows there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fim_kernels.dispatch import forced_reference, use_triton
from fim_kernels.types import Weight8Bit

STORAGE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""Storage types and the largest magnitude each holds."""


def quantise(
    weight: Tensor, storage: torch.dtype = torch.int8, levels: int | None = None
) -> Weight8Bit:
    """Symmetric, one scale a row: `scale = max|w| / levels`, `values = w / scale` rounded.

    weight: `[N, K]`, any float dtype. A row of zeros stays zeros. levels: the largest magnitude
    used, None for all that the storage holds; with fewer, bytes compress better in an archive.
    """
    if storage not in STORAGE:
        known = ", ".join(map(str, STORAGE))
        raise ValueError(f"weights can be stored as {known}, not {storage}")
    wide = weight.float()
    scale = wide.abs().amax(1) / (levels or STORAGE[storage])
    if storage is not torch.int8:
        return Weight8Bit((wide / _divisor(scale)).to(storage), scale)
    narrow = scale.bfloat16()
    upwards = narrow.float() < scale  # else the largest weight would not fit
    narrow = (narrow.view(torch.int16) + upwards.short()).view(torch.bfloat16)
    steps = (wide / _divisor(narrow.float())).round()
    return Weight8Bit(steps.to(storage), narrow.float(), narrow)


def _divisor(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1.0, scale)[:, None]


def matmul_8bit(x: Tensor, weight: Weight8Bit) -> Tensor:
    """x: `[..., K]`, float32, bfloat16 or float16. Returns `[..., N]` in x's dtype.

    Accumulated in float32, scaled there, rounded once.
    """
    if use_triton(x, weight.values, weight.scale):
        from fim_kernels.matmul_8bit_triton import matmul_8bit_triton

        return matmul_8bit_triton(x, weight)
    scale = weight.scale_bf16
    if scale is not None and _for_pytorch(x):
        rows = torch._weight_int8pack_mm(x.flatten(0, -2), weight.values, scale)
        unflattened: torch.Tensor = rows.unflatten(0, x.shape[:-1])
        return unflattened
    return matmul_8bit_reference(x, weight)


def _for_pytorch(x: Tensor) -> bool:
    """Its kernel reads the depth in pieces of 16 and checks nothing."""
    fits = x.device.type == "cpu" and x.dtype is torch.bfloat16 and x.shape[-1] % 16 == 0
    return fits and not forced_reference()


def matmul_8bit_reference(x: Tensor, weight: Weight8Bit) -> Tensor:
    return (x.float() @ weight.values.float().T * weight.scale).to(x.dtype)
