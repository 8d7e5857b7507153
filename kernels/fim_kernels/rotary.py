"""Rotary position embedding, half-split layout (Su et al., arXiv 2104.09864).

`y[i] = x[i] cos - x[i + D/2] sin`, `y[i + D/2] = x[i + D/2] cos + x[i] sin`. YaRN's stretched
frequencies and its attention factor are in the tables cos and sin; Llama 4's query scale is a
table too. Bytes moved: every head once in and once out; the tables stay in cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fim_kernels.dispatch import use_triton


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs `(x[i], x[i + D/2])` by the angle of their position.

    x: `[B, H, T, D]`; cos, sin: `[B, T, D]` in x's dtype (the angles of the first half repeated).
    """
    if use_triton(x, cos, sin):
        from fim_kernels.rotary_triton import apply_rotary_triton

        return apply_rotary_triton(x, cos, sin)
    return apply_rotary_reference(x, cos, sin)


def rotate_into_cache(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    start: Tensor,
    query_scale: Tensor | None = None,
) -> Tensor:
    """Rotate queries and keys, scale the queries, and write keys and values into the cache.

    query: `[B, H, T, D]`; key, value: `[B, G, T, D]`; cos, sin: `[B, T, D]`; query_scale:
    `[B, 1, T, 1]` or None; all of one dtype. keys, values: cache buffers `[B, G, C, D]`, of which
    `start[b] .. start[b] + T` is written (start: int32 `[B]` on the same device, so that a CUDA
    graph can be replayed at any length; the caller keeps `start + T <= C`). Returns the rotated
    queries `[B, H, T, D]`.
    """
    if use_triton(query, key, value, cos, sin, keys, values, start):
        from fim_kernels.rotary_triton import rotate_into_cache_triton

        return rotate_into_cache_triton(
            query, key, value, cos, sin, keys, values, start, query_scale
        )
    return rotate_into_cache_reference(
        query, key, value, cos, sin, keys, values, start, query_scale
    )


def apply_rotary_reference(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.unsqueeze(1) + rotated * sin.unsqueeze(1)


def rotate_into_cache_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    start: Tensor,
    query_scale: Tensor | None = None,
) -> Tensor:
    batch, _, width, _ = key.shape
    rows = torch.arange(batch, device=key.device)[:, None]
    places = start[:, None] + torch.arange(width, device=key.device)
    # Indexing dimensions 0 and 2 together puts them first: [B, T, G, D].
    keys[rows, :, places] = apply_rotary_reference(key, cos, sin).transpose(1, 2).to(keys.dtype)
    values[rows, :, places] = value.transpose(1, 2).to(values.dtype)
    query = apply_rotary_reference(query, cos, sin)
    return query if query_scale is None else query * query_scale
