# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernels of `apply_rotary` and `rotate_into_cache`: one program a token and head."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rotated(p_x, p_cos, p_sin, o_i, m_i, HALF: tl.constexpr):
    """Both halves of one rotated head, float32."""
    b_low = tl.load(p_x + o_i, mask=m_i, other=0.0).to(tl.float32)
    b_high = tl.load(p_x + HALF + o_i, mask=m_i, other=0.0).to(tl.float32)
    b_cos = tl.load(p_cos + o_i, mask=m_i, other=0.0).to(tl.float32)
    b_sin = tl.load(p_sin + o_i, mask=m_i, other=0.0).to(tl.float32)
    return b_low * b_cos - b_high * b_sin, b_high * b_cos + b_low * b_sin


@triton.jit
def _rotate(
    p_x, p_cos, p_sin, p_y, width, heads, stride_xb, stride_xh, stride_xt,
    HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i_token = tl.program_id(0).to(tl.int64)
    i_b, i_t, i_h = i_token // width, i_token % width, tl.program_id(1)
    o_i = tl.arange(0, BLOCK)
    m_i = o_i < HALF
    p_row = p_x + i_b * stride_xb + i_h * stride_xh + i_t * stride_xt
    p_angle = i_token * 2 * HALF
    b_low, b_high = _rotated(p_row, p_cos + p_angle, p_sin + p_angle, o_i, m_i, HALF)
    p_out = p_y + ((i_b * heads + i_h) * width + i_t) * 2 * HALF + o_i
    tl.store(p_out, b_low.to(p_y.dtype.element_ty), mask=m_i)
    tl.store(p_out + HALF, b_high.to(p_y.dtype.element_ty), mask=m_i)


@triton.jit
def _rotate_into_cache(
    p_query, p_key, p_value, p_cos, p_sin, p_scale, p_start, p_y, p_keys, p_values,
    width, heads,
    stride_qb, stride_qh, stride_qt, stride_kb, stride_kh, stride_kt,
    stride_vb, stride_vh, stride_vt, stride_cb, stride_ch, stride_ct,
    SCALED: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Axis 1 of the grid: all query heads, then all key heads; a key's program copies its value."""
    i_token = tl.program_id(0).to(tl.int64)
    i_b, i_t, i_h = i_token // width, i_token % width, tl.program_id(1)
    o_i = tl.arange(0, BLOCK)
    m_i = o_i < HALF
    p_angle = i_token * 2 * HALF
    if i_h < heads:
        p_row = p_query + i_b * stride_qb + i_h * stride_qh + i_t * stride_qt
        b_low, b_high = _rotated(p_row, p_cos + p_angle, p_sin + p_angle, o_i, m_i, HALF)
        if SCALED:
            scale = tl.load(p_scale + i_token).to(tl.float32)
            b_low, b_high = b_low * scale, b_high * scale
        p_out = p_y + ((i_b * heads + i_h) * width + i_t) * 2 * HALF + o_i
        tl.store(p_out, b_low.to(p_y.dtype.element_ty), mask=m_i)
        tl.store(p_out + HALF, b_high.to(p_y.dtype.element_ty), mask=m_i)
    else:
        i_g = i_h - heads
        p_row = p_key + i_b * stride_kb + i_g * stride_kh + i_t * stride_kt
        b_low, b_high = _rotated(p_row, p_cos + p_angle, p_sin + p_angle, o_i, m_i, HALF)
        i_place = tl.load(p_start + i_b).to(tl.int64) + i_t
        o_place = i_b * stride_cb + i_g * stride_ch + i_place * stride_ct + o_i
        tl.store(p_keys + o_place, b_low.to(p_keys.dtype.element_ty), mask=m_i)
        tl.store(p_keys + o_place + HALF, b_high.to(p_keys.dtype.element_ty), mask=m_i)
        p_copied = p_value + i_b * stride_vb + i_g * stride_vh + i_t * stride_vt + o_i
        b_first = tl.load(p_copied, mask=m_i).to(p_values.dtype.element_ty)
        b_second = tl.load(p_copied + HALF, mask=m_i).to(p_values.dtype.element_ty)
        tl.store(p_values + o_place, b_first, mask=m_i)
        tl.store(p_values + o_place + HALF, b_second, mask=m_i)


def apply_rotary_triton(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    batch, heads, width, dim = x.shape
    x = x if x.stride(3) == 1 else x.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _rotate[(batch * width, heads)](
        x, cos.contiguous(), sin.contiguous(), y, width, heads, *x.stride()[:3],
        HALF=dim // 2, BLOCK=triton.next_power_of_2(dim // 2), num_warps=1,
    )  # fmt: skip
    return y


def rotate_into_cache_triton(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    start: Tensor,
    query_scale: Tensor | None,
) -> Tensor:
    batch, heads, width, dim = query.shape
    if keys.stride() != values.stride() or keys.stride(3) != 1:
        raise ValueError("the buffers of keys and values must have one layout, rows contiguous")
    query, key, value = (x if x.stride(3) == 1 else x.contiguous() for x in (query, key, value))
    y = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    _rotate_into_cache[(batch * width, heads + key.shape[1])](
        query, key, value, cos.contiguous(), sin.contiguous(),
        cos if query_scale is None else query_scale.contiguous(), start, y, keys, values,
        width, heads, *query.stride()[:3], *key.stride()[:3], *value.stride()[:3],
        *keys.stride()[:3],
        SCALED=query_scale is not None, HALF=dim // 2, BLOCK=triton.next_power_of_2(dim // 2),
        num_warps=1,
    )  # fmt: skip
    return y
