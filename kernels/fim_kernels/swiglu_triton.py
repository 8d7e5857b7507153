# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernel of `swiglu`: reads the two halves of a fused projection where they lie."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _swiglu(p_gate, p_up, p_y, size, stride_gate, stride_up, BLOCK: tl.constexpr):
    i_row = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m_d = o_d < size
    b_gate = tl.load(p_gate + i_row * stride_gate + o_d, mask=m_d, other=0.0)
    b_up = tl.load(p_up + i_row * stride_up + o_d, mask=m_d, other=0.0)
    b_wide = b_gate.to(tl.float32)
    # The activation is rounded to the dtype before it multiplies, as the reference's is.
    b_active = (b_wide / (1.0 + tl.exp(-b_wide))).to(b_gate.dtype).to(tl.float32)
    b_y = b_active * b_up.to(tl.float32)
    tl.store(p_y + i_row * size + o_d, b_y.to(b_gate.dtype), mask=m_d)


def swiglu_triton(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = _rows(gate), _rows(up)
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    size = gate.shape[-1]
    grid = (triton.cdiv(size, BLOCK), y.numel() // size)
    _swiglu[grid](gate, up, y, size, _row_stride(gate), _row_stride(up), BLOCK=BLOCK, num_warps=4)
    return y


def _rows(x: Tensor) -> Tensor:
    """x itself if its rows lie at one distance (a slice of the last dimension does), else a copy"""
    evenly = x.stride(-1) == 1 and all(
        x.stride(i) == x.stride(i + 1) * x.shape[i + 1] for i in range(x.dim() - 2)
    )
    return x if evenly else x.contiguous()


def _row_stride(x: Tensor) -> int:
    return x.stride(-2) if x.dim() > 1 else x.shape[-1]
