# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernel of `rms_norm` and `add_rms_norm`: one program a row, one pass over memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rms_norm(
    p_x, p_residual, p_weight, p_y, p_total, size, eps, ADD: tl.constexpr, BLOCK: tl.constexpr
):
    i_row = tl.program_id(0).to(tl.int64)
    o_d = tl.arange(0, BLOCK)
    m_d = o_d < size
    b_x = tl.load(p_x + i_row * size + o_d, mask=m_d, other=0.0)
    if ADD:
        b_residual = tl.load(p_residual + i_row * size + o_d, mask=m_d, other=0.0)
        b_x = (b_x.to(tl.float32) + b_residual.to(tl.float32)).to(b_x.dtype)
        tl.store(p_total + i_row * size + o_d, b_x, mask=m_d)
    b_wide = b_x.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(b_wide * b_wide, axis=0) / size + eps)
    b_y = (b_wide * scale).to(b_x.dtype).to(tl.float32)  # rounded before the weight, see rms_norm
    b_weight = tl.load(p_weight + o_d, mask=m_d, other=0.0).to(b_x.dtype).to(tl.float32)
    tl.store(p_y + i_row * size + o_d, (b_y * b_weight).to(b_x.dtype), mask=m_d)


def rms_norm_triton(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`(rms_norm(x + residual), x + residual)`; without a residual the second one is x."""
    x = x.contiguous()
    size = x.shape[-1]
    y = torch.empty_like(x)
    total = torch.empty_like(x) if residual is not None else x
    added = residual.contiguous() if residual is not None else x
    block = triton.next_power_of_2(size)
    _rms_norm[(x.numel() // size,)](
        x, added, weight, y, total, size, eps,
        ADD=residual is not None, BLOCK=block, num_warps=min(16, max(1, block // 512)),
    )  # fmt: skip
    return y, total
