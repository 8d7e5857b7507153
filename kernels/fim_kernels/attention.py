"""Grouped-query attention of a block of queries over everything cached before it and itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention; the T queries are the last T of the S keys.

    query: `[B, H, T, D]`; key, value: `[B, G, S, D]` with `H % G == 0` and `T <= S`.
    causal=True: query i sees keys `0 .. S-T+i`; causal=False: every query sees all keys (a
    bidirectional block over its cache). A boolean `mask` `[B or 1, 1, T, S]` (True = visible)
    replaces both. Returns `[B, H, T, D]`.
    """
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


def share_heads(x: Tensor, heads: int) -> Tensor:
    """`[B, G, S, D]` to `[B, heads, S, D]`: one key head for each group of query heads.

    SDPA's own `enable_gqa` leaves its flash kernel on CPU and is several times slower.
    """
    groups = x.shape[1]
    return x if groups == heads else x.repeat_interleave(heads // groups, dim=1)
