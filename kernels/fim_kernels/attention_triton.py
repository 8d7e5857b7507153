# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernels of `attend`: flash attention with the cache split over programs, and its combine.

A row of the packed query matrix is a token and one of the `R = H / G` heads that share its key
head: row `m` is token `m // R`, head `g * R + m % R`. Program (row tile, split, key head) reads
its share of the keys once, keeps a running maximum and sum in float32 (Dao et al., arXiv
2205.14135), and writes a normalised partial output with its log-sum-exp; the combine weighs the
partials by them (flash-decoding). With one split the output is written directly.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fim_kernels.dispatch import interpreted, multiprocessors

EVERYTHING, CAUSAL, SPECULATION, MASK = range(4)
"""Patterns: all keys, causal, rows of quadratic self-speculation, a boolean mask."""

BLOCK_KEYS = 64
MAX_SPLITS = 64
PROGRAMS_PER_MULTIPROCESSOR = 2


@triton.jit
def _attend_split(
    p_query, p_key, p_value, p_mask, p_span, p_out, p_lse,
    groups, ratio, width, keys, dim, keys_per_split, row_length, scale_log2,
    stride_qb, stride_qh, stride_qt, stride_kb, stride_kg, stride_ks,
    stride_vb, stride_vg, stride_vs, stride_mb, stride_mt, stride_ms,
    PATTERN: tl.constexpr, SPANNED: tl.constexpr, SPLITS: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i_tile, i_split, i_bg = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    i_b, i_g = i_bg // groups, i_bg % groups
    rows = width * ratio
    o_m = i_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    o_d = tl.arange(0, BLOCK_D)
    m_m, m_d = o_m < rows, o_d < dim
    b_token, b_head = o_m // ratio, i_g * ratio + o_m % ratio
    span = keys
    if SPANNED:
        span = tl.load(p_span + i_b)
    past = span - width  # keys that were there before this forward

    o_q = b_head[:, None].to(tl.int64) * stride_qh + b_token[:, None].to(tl.int64) * stride_qt
    p_q = p_query + i_b.to(tl.int64) * stride_qb + o_q + o_d[None, :]
    b_q = tl.load(p_q, mask=m_m[:, None] & m_d[None, :], other=0.0)
    if UPCAST:  # the interpreter multiplies bfloat16 wrongly
        b_q = b_q.to(tl.float32)
    first = i_split * keys_per_split
    o_tile, i_first = tl.arange(0, BLOCK_N), first.to(tl.int64)
    o_k = i_b.to(tl.int64) * stride_kb + i_g.to(tl.int64) * stride_kg + i_first * stride_ks
    o_v = i_b.to(tl.int64) * stride_vb + i_g.to(tl.int64) * stride_vg + i_first * stride_vs
    p_k = p_key + o_k + (o_tile[None, :] * stride_ks + o_d[:, None])
    p_v = p_value + o_v + (o_tile[:, None] * stride_vs + o_d[None, :])

    b_max = tl.full((BLOCK_M,), -float("inf"), tl.float32)
    b_sum = tl.zeros((BLOCK_M,), tl.float32)
    b_out = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    last = tl.minimum(first + keys_per_split, span)
    if PATTERN == 1:  # nothing after the tile's last token is visible
        last_token = tl.minimum((i_tile * BLOCK_M + BLOCK_M - 1) // ratio, width - 1)
        last = tl.minimum(last, past + last_token + 1)
    for i_n in range(first, last, BLOCK_N):
        o_n = i_n + o_tile
        m_n = o_n < last
        b_k = tl.load(p_k, mask=m_n[None, :] & m_d[:, None], other=0.0)
        if UPCAST:
            b_k = b_k.to(tl.float32)
        b_s = tl.dot(b_q, b_k, input_precision="ieee") * scale_log2
        m_s = m_n[None, :] & m_m[:, None]
        if PATTERN == 1:
            m_s = m_s & (o_n[None, :] <= past + b_token[:, None])
        elif PATTERN == 2:
            b_new = o_n - past
            b_rows_back = (b_token // row_length)[:, None] - (b_new // row_length)[None, :]
            m_head = (b_new % row_length == 0)[None, :] & (b_rows_back >= 0)
            m_own = (b_token % row_length != 0)[:, None] & (b_rows_back == 0)
            m_s = m_s & ((b_new < 0)[None, :] | m_head | m_own)
        elif PATTERN == 3:
            o_mask = b_token[:, None].to(tl.int64) * stride_mt + o_n[None, :] * stride_ms
            p_m = p_mask + i_b.to(tl.int64) * stride_mb + o_mask
            m_s = m_s & (tl.load(p_m, mask=m_s, other=0) != 0)
        b_s = tl.where(m_s, b_s, -float("inf"))
        b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1))
        # A row that has seen no key yet keeps -inf: subtract 0 there, not -inf from -inf.
        b_base = tl.where(b_new_max == -float("inf"), 0.0, b_new_max)
        b_p = tl.exp2(b_s - b_base[:, None])
        b_shrink = tl.exp2(b_max - b_base)
        b_sum = b_sum * b_shrink + tl.sum(b_p, axis=1)
        b_v = tl.load(p_v, mask=m_n[:, None] & m_d[None, :], other=0.0)
        if UPCAST:
            b_v = b_v.to(tl.float32)
        b_out = tl.dot(
            b_p.to(b_v.dtype), b_v, b_out * b_shrink[:, None], input_precision="ieee"
        )  # fmt: skip
        b_max = b_new_max
        p_k += BLOCK_N * stride_ks
        p_v += BLOCK_N * stride_vs
    b_sum = tl.where(b_sum == 0, 1.0, b_sum)  # of a row that saw nothing; its maximum is -inf
    b_out = b_out / b_sum[:, None]
    if SPLITS == 1:  # [B, T, H, D]
        o_row = (i_b.to(tl.int64) * width + b_token) * groups * ratio + b_head
        p_o = p_out + o_row[:, None] * dim + o_d[None, :]
        tl.store(p_o, b_out.to(p_out.dtype.element_ty), mask=m_m[:, None] & m_d[None, :])
    else:  # [splits, B * G, rows, D]
        o_row = (i_split * tl.num_programs(2) + i_bg).to(tl.int64) * rows + o_m
        p_o = p_out + o_row[:, None] * dim + o_d[None, :]
        tl.store(p_o, b_out, mask=m_m[:, None] & m_d[None, :])
        tl.store(p_lse + o_row, b_max + tl.log2(b_sum), mask=m_m)


@triton.jit
def _combine_splits(
    p_partial, p_lse, p_out, groups, ratio, width, dim, plane,
    SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program a packed row; `plane` is how many rows a split has."""
    i_row = tl.program_id(0).to(tl.int64)
    rows = width * ratio
    i_bg, i_m = i_row // rows, i_row % rows
    i_b, i_g = i_bg // groups, i_bg % groups
    o_s, o_d = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    m_s, m_d = o_s < SPLITS, o_d < dim
    o_partial = o_s.to(tl.int64) * plane + i_row
    b_lse = tl.load(p_lse + o_partial, mask=m_s, other=-float("inf"))
    best = tl.max(b_lse, axis=0)
    b_weight = tl.exp2(b_lse - tl.where(best == -float("inf"), 0.0, best))
    total = tl.sum(b_weight, axis=0)
    p_p = p_partial + o_partial[:, None] * dim + o_d[None, :]
    b_partial = tl.load(p_p, mask=m_s[:, None] & m_d[None, :], other=0.0)
    b_out = tl.sum(b_partial * b_weight[:, None], axis=0) / tl.where(total == 0, 1.0, total)
    o_out = (i_b * width + i_m // ratio) * groups * ratio + i_g * ratio + i_m % ratio
    tl.store(p_out + o_out * dim + o_d, b_out.to(p_out.dtype.element_ty), mask=m_d)


def attend_triton(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool,
    mask: Tensor | None = None,
    row_length: int | None = None,
    span: Tensor | None = None,
    splits: int | None = None,
) -> Tensor:
    """`attend` on kernels; `splits` overrides how many programs share a key head's cache.

    The result is stored as `[B, T, H, D]` and returned as a view `[B, H, T, D]`, so that merging
    the heads afterwards copies nothing. A query that sees no key gets zeros.
    """
    batch, heads, width, dim = query.shape
    groups, keys = key.shape[1], key.shape[2]
    if query.dtype != key.dtype or key.dtype != value.dtype:
        raise ValueError(
            f"query, key, value must have one dtype, not {query.dtype}, {key.dtype}, {value.dtype}"
        )
    query, key, value = (x if x.stride(3) == 1 else x.contiguous() for x in (query, key, value))
    ratio = heads // groups
    rows = width * ratio
    wide = query.dtype == torch.float32
    block_m = min(16 if wide else 128, max(16, triton.next_power_of_2(rows)))
    block_n = BLOCK_KEYS // 2 if wide else BLOCK_KEYS
    tiles = triton.cdiv(rows, block_m)
    if splits is None:
        splits = _choose_splits(tiles * batch * groups, keys, query.device)
    keys_per_split = triton.cdiv(triton.cdiv(keys, splits), block_n) * block_n

    out = torch.empty(batch, width, heads, dim, dtype=query.dtype, device=query.device)
    plane = batch * groups * rows
    partial, lse = out, out
    if splits > 1:
        partial = torch.empty(splits, plane, dim, dtype=torch.float32, device=query.device)
        lse = torch.empty(splits, plane, dtype=torch.float32, device=query.device)
    pattern = CAUSAL if causal and width > 1 else EVERYTHING
    mask_strides = (0, 0, 0)
    if row_length is not None:
        pattern = SPECULATION
    elif mask is not None:
        pattern, mask = MASK, mask.expand(batch, 1, width, keys).view(torch.int8)
        mask_strides = (mask.stride(0), mask.stride(2), mask.stride(3))
    _attend_split[(tiles, splits, batch * groups)](
        query, key, value, query if mask is None else mask, query if span is None else span,
        partial, lse, groups, ratio, width, keys, dim, keys_per_split, row_length or 1,
        math.log2(math.e) / math.sqrt(dim),
        *query.stride()[:3], *key.stride()[:3], *value.stride()[:3], *mask_strides,
        PATTERN=pattern, SPANNED=span is not None, SPLITS=splits, UPCAST=interpreted(),
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_D=max(16, triton.next_power_of_2(dim)),
        num_warps=8 if wide or block_m >= 64 else 4, num_stages=2,
    )  # fmt: skip
    if splits > 1:
        _combine_splits[(plane,)](
            partial, lse, out, groups, ratio, width, dim, plane,
            SPLITS=splits, BLOCK_S=triton.next_power_of_2(splits),
            BLOCK_D=max(16, triton.next_power_of_2(dim)), num_warps=4,
        )  # fmt: skip
    return out.transpose(1, 2)


def _choose_splits(programs: int, keys: int, device: torch.device) -> int:
    """Enough programs to fill the device, none with fewer than two tiles of keys, power of two.

    A power of two, because SPLITS is compiled in: few variants, whatever lengths come by.
    """
    wanted = triton.cdiv(multiprocessors(device) * PROGRAMS_PER_MULTIPROCESSOR, programs)
    fitting = max(1, keys // (2 * BLOCK_KEYS))
    return min(MAX_SPLITS, int(triton.next_power_of_2(min(wanted, fitting))))
