# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernel of `score_head`: logits live in registers only.

The vocabulary is on the M side of the product: Hopper's warp-group matrix instruction needs
M >= 64, and a block of 32 positions is too narrow to be it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fim_kernels.dispatch import interpreted
from fim_kernels.token_scores_triton import TileStatistics, store_tile_statistics
from fim_kernels.types import FullScores

BLOCK_VOCABULARY = 128


@triton.jit
def _head_statistics(
    p_hidden, p_weight, p_rows, p_stats, p_token,
    n_rows, vocabulary, size, stride_h, stride_w, tiles, plane,
    SELECTED: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program: `BLOCK_V` ids for `BLOCK_R` rows."""
    i_tile, i_r = tl.program_id(0), tl.program_id(1)
    o_v = i_tile * BLOCK_V + tl.arange(0, BLOCK_V)
    o_r = i_r * BLOCK_R + tl.arange(0, BLOCK_R)
    o_k = tl.arange(0, BLOCK_K)
    m_v, m_r = o_v < vocabulary, o_r < n_rows
    b_row = o_r
    if SELECTED:
        b_row = tl.load(p_rows + o_r, mask=m_r, other=-1)
        m_r = b_row >= 0
    p_w = p_weight + o_v[:, None].to(tl.int64) * stride_w + o_k[None, :]
    p_h = p_hidden + b_row[None, :].to(tl.int64) * stride_h + o_k[:, None]
    b_z = tl.zeros((BLOCK_V, BLOCK_R), tl.float32)
    for i_k in range(0, size, BLOCK_K):
        m_k = o_k < size - i_k
        b_w = tl.load(p_w + i_k, mask=m_v[:, None] & m_k[None, :], other=0.0)
        b_h = tl.load(p_h + i_k, mask=m_k[:, None] & m_r[None, :], other=0.0)
        if UPCAST:  # the interpreter multiplies bfloat16 wrongly
            b_w, b_h = b_w.to(tl.float32), b_h.to(tl.float32)
        b_z = tl.dot(b_w, b_h, b_z, input_precision="ieee")
    o_out = o_r.to(tl.int64) * tiles + i_tile
    store_tile_statistics(b_z, o_v, m_v, p_stats, p_token, o_out, o_r < n_rows, plane)


def score_head_triton(hidden: Tensor, weight: Tensor, rows: Tensor | None) -> FullScores:
    if hidden.dtype != weight.dtype:
        raise ValueError(f"hidden is {hidden.dtype} and weight {weight.dtype}: one dtype is needed")
    if hidden.stride(1) != 1 or weight.stride(1) != 1:
        raise ValueError("the rows of hidden and weight must be contiguous")
    count = hidden.shape[0] if rows is None else rows.shape[0]
    vocabulary, size = weight.shape
    wide = hidden.dtype == torch.float32
    tiles = triton.cdiv(vocabulary, BLOCK_VOCABULARY)
    block_r = min(64, max(16, triton.next_power_of_2(count)))
    scratch = TileStatistics.empty(count, tiles, hidden.device)
    _head_statistics[(tiles, triton.cdiv(count, block_r))](
        hidden, weight, hidden if rows is None else rows, scratch.stats, scratch.token,
        count, vocabulary, size, hidden.stride(0), weight.stride(0), tiles, count * tiles,
        SELECTED=rows is not None, UPCAST=interpreted(),
        BLOCK_V=BLOCK_VOCABULARY, BLOCK_R=block_r, BLOCK_K=32 if wide else 64,
        num_warps=4, num_stages=2 if wide else 4,
    )  # fmt: skip
    return scratch.combine(vocabulary, rows)
