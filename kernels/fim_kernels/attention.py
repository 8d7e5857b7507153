"""Grouped-query attention of a block of queries over everything cached before it and itself.

`y = softmax(q k^T / sqrt(D)) v` over the visible keys. Bytes moved: the keys and values once for
each key head (`2 * B * G * S * D` elements), queries and outputs once. The kernel packs all query
heads that share a key head into the rows of one matrix and splits a long cache over programs, so
that one block of queries keeps a whole GPU busy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fim_kernels.dispatch import use_triton


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool,
    mask: Tensor | None = None,
    row_length: int | None = None,
    span: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention; the T queries are the last T of the S keys.

    query: `[B, H, T, D]`; key, value: `[B, G, S, D]` with `H % G == 0` and `T <= S`.
    causal=True: query i sees keys `0 .. S-T+i`; causal=False: every query sees all keys (a
    bidirectional block over its cache). A boolean `mask` `[B or 1, 1, T, S]` (True = visible)
    replaces both, and so does `row_length`, the pattern of quadratic self-speculation (see
    `speculation_visible`). `span`, int32 `[B]`, says how many of the S keys exist, for caches
    whose length only the device knows: the queries are then the last T of `span[b]` keys, and what
    lies after is never read. Every query must see a key. Returns `[B, H, T, D]`.
    """
    if mask is not None and (row_length is not None or span is not None):
        raise ValueError("a mask already says who sees whom: give no row_length and no span")
    if use_triton(query, key, value):
        from fim_kernels.attention_triton import attend_triton

        return attend_triton(
            query, key, value, causal=causal, mask=mask, row_length=row_length, span=span
        )
    if span is not None or row_length is not None:
        mask = visible(
            query.shape[2], key.shape[2], query.device, causal=causal,
            row_length=row_length, span=span,
        )  # fmt: skip
    return attend_reference(query, key, value, causal=causal, mask=mask)


def attend_reference(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    batch, heads, width, dim = query.shape
    groups, span = key.shape[1], key.shape[2]
    if mask is None and causal and width > 1:
        if width == span:
            key, value = share_heads(key, heads), share_heads(value, heads)
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mask = causal_mask(width, span, query.device)
    if mask is not None:
        key, value = share_heads(key, heads), share_heads(value, heads)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # Nothing is masked, so the heads that share a key can be stacked as more rows of one matrix.
    rows = query.reshape(batch, groups, heads // groups * width, dim)
    return F.scaled_dot_product_attention(rows, key, value).reshape(batch, heads, width, dim)


def causal_mask(width: int, span: int, device: torch.device) -> Tensor:
    """Boolean `[1, 1, width, span]`: the last `width` positions see themselves and the past."""
    ones = torch.ones(width, span, dtype=torch.bool, device=device)
    return ones.tril_(span - width)[None, None]


def visible(
    width: int,
    keys: int,
    device: torch.device,
    *,
    causal: bool,
    row_length: int | None = None,
    span: Tensor | None = None,
) -> Tensor:
    """The mask `[B or 1, 1, width, keys]` of a pattern of `attend`, for buffers of `keys` keys."""
    span = torch.tensor([keys], device=device) if span is None else span
    key = torch.arange(keys, device=device)[None, None]
    query = torch.arange(width, device=device)[None, :, None]
    new = key - (span[:, None, None] - width)  # place among the forward's own tokens, or negative
    seen = key < span[:, None, None]
    if row_length is not None:
        seen = seen & ((new < 0) | speculation_visible(query, new, row_length))
    elif causal:
        seen = seen & (new <= query)
    return seen.expand(-1, width, -1)[:, None]


def speculation_visible(query: Tensor, key: Tensor, row_length: int) -> Tensor:
    """Who sees whom among the tokens of a quadratic self-speculation forward.

    The tokens are rows `[draft_i, MASK x (row_length - 1)]` in sequence; the first of a
    row is its head. Every token sees the heads up to its own row's; masks also see their own row.
    query, key: integer places in the forward, of shapes that broadcast; returns bool.
    """
    query_row, key_row = query // row_length, key // row_length
    key_is_head, query_is_head = key % row_length == 0, query % row_length == 0
    return (key_is_head & (key_row <= query_row)) | (~query_is_head & (key_row == query_row))


def share_heads(x: Tensor, heads: int) -> Tensor:
    """`[B, G, S, D]` to `[B, heads, S, D]`: one key head for each group of query heads.

    SDPA's own `enable_gqa` leaves its flash kernel on CPU and is several times slower.
    """
    groups = x.shape[1]
    return x if groups == heads else x.repeat_interleave(heads // groups, dim=1)
