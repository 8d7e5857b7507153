"""Product of 8-bit rows with 8-bit weights on a CPU: integers multiplied, their sums exact.

`y = (q @ values^T) * row_scale * scale`, with one scale a row of activations and one an output
channel, as in LLM.int8() without outliers (arXiv 2208.07339). Bytes moved: `N * K` weights.
A prompt is bound by arithmetic, and integer products have four times float32's rate; a few rows
are bound by reading weights, of which there is a quarter.

Integer sums do not depend on their order, so a row's result is the same to the last bit however
many rows stand beside it.

oneDNN's products are reached through `torch.ops.onednn`, which PyTorch's own quantisation uses but
does not document: everything that knows them is in this file. Activations are stored as unsigned
bytes around 128, since x86's instruction (VPDPBUSD) multiplies unsigned by signed; its sums of 32
bits cannot overflow at the depths of a language model. Where the processor or the build lacks it,
`available` is false, and rows are bfloat16 (`matmul_8bit`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fim_kernels.dispatch import forced_reference
from fim_kernels.matmul_packed import prepared_rows
from fim_kernels.types import Weight8Bit

LEVELS = 127
MIDDLE = 128
SMALLEST = 1e-30
"""Added to every row's scale, so that a row of zeros can be divided by it."""


@dataclass(frozen=True, slots=True)
class IntegerWeight:
    """packed: `[N, K]` in oneDNN's layout, or as it was where oneDNN is not used; scale: float32
    `[N]`; no_shift: int32 `[N]`, zeros, which oneDNN asks for."""

    packed: Tensor
    scale: Tensor
    no_shift: Tensor


@dataclass(frozen=True, slots=True)
class IntegerRows:
    """values: uint8 `[T, K]`, 128 for zero; scale: float32 `[T, 1]`."""

    values: Tensor
    scale: Tensor


def available() -> bool:
    """Whether this processor and this build of PyTorch multiply bytes quickly."""
    return not forced_reference() and _has_instruction() and _has_operations()


def pack_int8(weight: Weight8Bit) -> IntegerWeight:
    """Weights of 8 bits in the layout that is multiplied, made once."""
    values, count = weight.values, len(weight.scale)
    packed = torch.ops.onednn.qlinear_prepack(values, None) if available() else values
    return IntegerWeight(packed, weight.scale, torch.zeros(count, dtype=torch.int32))


def quantise_rows(x: Tensor) -> IntegerRows:
    """Symmetric, one scale a row: `scale = max|x| / 127`, `values = x / scale` rounded, plus 128.

    x: float32 `[T, K]`.
    """
    scale = torch.add(SMALLEST, x.abs().amax(-1, keepdim=True), alpha=1 / LEVELS)
    # Conversion cuts off, so half a step is added first; all values are positive by then.
    return IntegerRows(torch.div(x, scale).add_(MIDDLE + 0.5).to(torch.uint8), scale)


def matmul_int8(x: Tensor, weight: IntegerWeight) -> Tensor:
    """x: float32 `[T, K]`. Returns float32 `[T, N]`."""
    rows = quantise_rows(x)
    return integer_product(rows, weight).mul_(rows.scale)


def matmul_int8_fine(x: Tensor, weight: IntegerWeight) -> Tensor:
    """`matmul_int8` with activations of two bytes: what rounding took from a row is a second row,
    under the same read of the weights. For logits, which a byte is too coarse for."""
    coarse = quantise_rows(x)
    rest = quantise_rows(x - (coarse.values.float() - MIDDLE) * coarse.scale)
    scale = torch.cat([coarse.scale, rest.scale])
    rows = IntegerRows(torch.cat([coarse.values, rest.values]), scale)
    first, second = integer_product(rows, weight).mul_(scale).chunk(2)
    return first.add_(second)


def rms_norm_matmul_int8(x: Tensor, norm: Tensor, weight: IntegerWeight, eps: float) -> Tensor:
    """`matmul_int8(rms_norm(x) * norm, weight)` with fewer operations; x: float32 `[T, K]`.

    A norm divides a row by one number, which a row's scale takes in: bytes are made of `x * norm`.
    """
    rows = quantise_rows(x * norm)
    squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    inverse = torch.add(eps, squares, alpha=1 / x.shape[-1]).rsqrt_()
    return integer_product(rows, weight).mul_(inverse.mul_(rows.scale))


def integer_product(rows: IntegerRows, weight: IntegerWeight) -> Tensor:
    """The sums of products, float32 `[T, N]`, times the weight's scale but not the rows'."""
    if not weight.packed.is_mkldnn:
        return integer_product_reference(rows, weight)
    values, count = rows.values, len(rows.values)
    if missing := prepared_rows(count) - count:
        values = F.pad(values, (0, 0, 0, missing))
    product: Tensor = torch.ops.onednn.qlinear_pointwise.default(
        values, 1.0, MIDDLE, weight.packed, weight.scale, weight.no_shift, None,
        1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return product[:count]


def integer_product_reference(rows: IntegerRows, weight: IntegerWeight) -> Tensor:
    """The same of a weight that is not packed."""
    sums = (rows.values.int() - MIDDLE) @ weight.packed.int().T
    return sums.float() * weight.scale


def _has_instruction() -> bool:
    """AVX-512 VNNI or AMX. Elsewhere oneDNN's products are slow, or may overflow (AVX2)."""
    return bool(torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported())


def _has_operations() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    names = ("qlinear_prepack", "qlinear_pointwise")
    return all(hasattr(torch.ops.onednn, name) for name in names)
