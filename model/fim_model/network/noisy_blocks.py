"""Attention of a training row: clean causal tokens, then noisy copies of some of their blocks.

On a CPU: plain matrix products over chunks of queries, which see no key after their chunk. With
bf16 matrix units that is three times as fast, forward and backward, as the fused kernels, which
have bf16 arithmetic for neither masks nor gradients. On a GPU: FlexAttention (arXiv 2412.05496),
which skips the blocks of the mask that are empty and, compiled, never writes the scores down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

QUERIES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class NoisyBlocks:
    """Who sees whom in a row of `clean` causal tokens and N noisy ones.

    mask: boolean `[B, 1, N, clean + N]`, True = visible to one of the noisy positions; or the whole
    row's mask in blocks, for FlexAttention. The latter pays only in a compiled model: uncompiled it
    computes every score.
    """

    clean: int
    mask: Tensor | BlockMask


def block_mask(noisy_limit: Tensor, clean: int, block_size: int) -> BlockMask:
    """The mask of a row for FlexAttention.

    noisy_limit: int64 `[B, N]`, a noisy position sees the clean ones below its limit, and its own
    block of `block_size` noisy ones.
    """
    rows, noisy = noisy_limit.shape

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (query - clean).clamp(min=0)
        causal = (query < clean) & (key <= query)
        earlier = (query >= clean) & (key < noisy_limit[row, own])
        same = (
            (query >= clean) & (key >= clean) & ((key - clean) // block_size == own // block_size)
        )
        return causal | earlier | same

    total = clean + noisy
    return create_block_mask(visible, rows, None, total, total, device=noisy_limit.device)


def attend_noisy_blocks(query: Tensor, key: Tensor, value: Tensor, row: NoisyBlocks) -> Tensor:
    """query `[B, H, clean + N, D]`, key and value `[B, G, clean + N, D]` to `[B, H, clean + N, D]`.

    The clean part never sees the noisy one.
    """
    if not isinstance(row.mask, Tensor):
        # Under autocast the rotation left queries and keys wider than the values.
        query, key = query.to(value.dtype), key.to(value.dtype)
        seen_by_all: Tensor = flex_attention(
            query, key, value, block_mask=row.mask, enable_gqa=True
        )
        return seen_by_all
    batch, heads, length, dim = query.shape
    groups = key.shape[1]
    query = query.view(batch, groups, heads // groups, length, dim)
    seen = []
    for first in range(0, row.clean, QUERIES_AT_ONCE):
        end = min(first + QUERIES_AT_ONCE, row.clean)
        width = end - first
        future = torch.ones(width, width, dtype=torch.bool, device=query.device).triu(1)
        hidden = F.pad(future, (first, 0))
        seen.append(_attend(query[..., first:end, :], key[:, :, :end], value[:, :, :end], hidden))
    seen.append(_attend(query[..., row.clean :, :], key, value, ~row.mask[:, :, None]))
    return torch.cat(seen, dim=3).flatten(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
    """Query heads `[B, G, H / G, T, D]` that share a key head are rows of one matrix product."""
    batch, groups, heads, width, dim = query.shape
    rows = query.reshape(batch, groups, heads * width, dim) * dim**-0.5
    scores = (rows @ key.transpose(-1, -2)).view(batch, groups, heads, width, key.shape[2])
    shares = scores.float().masked_fill(hidden, -torch.inf).softmax(-1).to(value.dtype)
    seen: Tensor = shares.flatten(2, 3) @ value
    return seen.view(batch, groups, heads, width, dim)
