# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernel of `matmul_8bit`: output channels on the M side, the depth split over programs.

A narrow product has `N / BLOCK_N` tiles, fewer than a large GPU has multiprocessors; splitting the
depth fills them. Partial sums meet in a second, small kernel in a fixed order (no atomics: the
same input gives the same bits).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fim_kernels.dispatch import interpreted, multiprocessors
from fim_kernels.types import Weight8Bit

BLOCK_CHANNELS = 64
BLOCK_DEPTH = 128
MAX_SPLITS = 16


@triton.jit
def _matmul_8bit(
    p_x, p_values, p_scale, p_out, rows, channels, depth, depth_per_split, stride_x, stride_v,
    SPLITS: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    i_n, i_r, i_split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_r = i_r * BLOCK_R + tl.arange(0, BLOCK_R)
    o_k = tl.arange(0, BLOCK_K)
    m_n, m_r = o_n < channels, o_r < rows
    p_w = p_values + o_n[:, None].to(tl.int64) * stride_v + o_k[None, :]
    p_row = p_x + o_r[None, :].to(tl.int64) * stride_x + o_k[:, None]
    b_y = tl.zeros((BLOCK_N, BLOCK_R), tl.float32)
    first = i_split * depth_per_split
    last = tl.minimum(first + depth_per_split, depth)
    for i_k in range(first, last, BLOCK_K):
        m_k = o_k < last - i_k
        b_w = tl.load(p_w + i_k, mask=m_n[:, None] & m_k[None, :], other=0.0)
        b_x = tl.load(p_row + i_k, mask=m_k[:, None] & m_r[None, :], other=0.0)
        if UPCAST:  # the interpreter multiplies bfloat16 wrongly
            b_x = b_x.to(tl.float32)
        b_y = tl.dot(b_w.to(b_x.dtype), b_x, b_y, input_precision="ieee")
    m_out = m_n[:, None] & m_r[None, :]
    o_out = o_r[None, :].to(tl.int64) * channels + o_n[:, None]
    if SPLITS == 1:
        b_scale = tl.load(p_scale + o_n, mask=m_n, other=0.0)
        tl.store(p_out + o_out, (b_y * b_scale[:, None]).to(p_out.dtype.element_ty), mask=m_out)
    else:
        o_out += i_split.to(tl.int64) * rows * channels
        tl.store(p_out + o_out, b_y, mask=m_out)


@triton.jit
def _sum_splits(
    p_partial, p_scale, p_out, channels, plane, SPLITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    o_i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m_i = o_i < plane
    b_sum = tl.zeros((BLOCK,), tl.float32)
    for i_split in tl.static_range(SPLITS):
        b_sum += tl.load(p_partial + i_split * plane + o_i, mask=m_i, other=0.0)
    b_scale = tl.load(p_scale + o_i % channels, mask=m_i, other=0.0)
    tl.store(p_out + o_i, (b_sum * b_scale).to(p_out.dtype.element_ty), mask=m_i)


def matmul_8bit_triton(x: Tensor, weight: Weight8Bit, splits: int | None = None) -> Tensor:
    channels, depth = weight.values.shape
    flat = x.reshape(-1, depth)
    if flat.stride(1) != 1 or weight.values.stride(1) != 1:
        raise ValueError("the rows of x and of the weight must be contiguous")
    rows = flat.shape[0]
    wide = x.dtype == torch.float32
    block_r = min(64, max(16, triton.next_power_of_2(rows)))
    tiles = triton.cdiv(channels, BLOCK_CHANNELS) * triton.cdiv(rows, block_r)
    if splits is None:
        splits = _choose_splits(tiles, depth, x.device)
    depth_per_split = triton.cdiv(triton.cdiv(depth, splits), BLOCK_DEPTH) * BLOCK_DEPTH
    y = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    partial = y
    if splits > 1:
        partial = torch.empty(splits, rows, channels, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(channels, BLOCK_CHANNELS), triton.cdiv(rows, block_r), splits)
    _matmul_8bit[grid](
        flat, weight.values, weight.scale, partial, rows, channels, depth, depth_per_split,
        flat.stride(0), weight.values.stride(0), SPLITS=splits, UPCAST=interpreted(),
        BLOCK_N=BLOCK_CHANNELS, BLOCK_R=block_r, BLOCK_K=32 if wide else BLOCK_DEPTH,
        num_warps=4, num_stages=2 if wide else 4,
    )  # fmt: skip
    if splits > 1:
        _sum_splits[(triton.cdiv(y.numel(), 1024),)](
            partial, weight.scale, y, channels, y.numel(), SPLITS=splits, BLOCK=1024, num_warps=4
        )
    return y.view(*x.shape[:-1], channels)


def _choose_splits(tiles: int, depth: int, device: torch.device) -> int:
    """Enough programs for two on each multiprocessor, none with less than two steps of depth."""
    wanted = triton.cdiv(2 * multiprocessors(device), tiles)
    fitting = max(1, depth // (2 * BLOCK_DEPTH))
    return min(MAX_SPLITS, int(triton.next_power_of_2(min(wanted, fitting))))
