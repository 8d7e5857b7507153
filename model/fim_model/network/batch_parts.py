"""Forwards over several caches as one: parts one behind the other, each sees its own cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fim_model.network.attention_mask import Attention
from fim_model.network.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class Part:
    """tokens, positions: int64 `[1, T]`; attention is among these T, all see the cache."""

    tokens: Tensor
    positions: Tensor
    attention: Attention | Tensor
    cache: KVCache

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    @property
    def span(self) -> int:
        return self.cache.length + self.width


class PackedCache(KVCache):
    """Several caches (batch 1) as one, for a forward over their parts one behind the other.

    It can only be written to; keeping tokens is the business of each cache's own decoding.
    """

    def __init__(self, caches: Sequence[KVCache], widths: Sequence[int]) -> None:
        self._caches, self._widths = caches, widths
        self.length = sum(cache.length for cache in caches)
        self.capacity = sum(cache.capacity for cache in caches)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Place each part of `[1, kv_heads, T, head_dim]` in its cache; all that is visible of all
        caches, one behind the other."""
        keys, values = key.split(list(self._widths), dim=2), value.split(list(self._widths), dim=2)
        seen = [
            cache.write(layer, one_key, one_value)
            for cache, one_key, one_value in zip(self._caches, keys, values, strict=True)
        ]
        return torch.cat([one for one, _ in seen], dim=2), torch.cat(
            [one for _, one in seen], dim=2
        )


def packed_pattern(parts: Sequence[Part]) -> Tensor:
    """Boolean `[1, T1 + T2 + …, S1 + S2 + …]`: each part sees its own cache and tokens."""
    device = parts[0].tokens.device
    width, span = sum(one.width for one in parts), sum(one.span for one in parts)
    pattern = torch.zeros(1, width, span, dtype=torch.bool, device=device)
    row = column = 0
    for one in parts:
        new = column + one.cache.length
        pattern[0, row : row + one.width, column:new] = True
        pattern[0, row : row + one.width, new : new + one.width] = among_new(one, device)
        row, column = row + one.width, column + one.span
    return pattern


def among_new(one: Part, device: torch.device) -> Tensor:
    """Who (row) sees whom among a forward's own tokens, boolean `[T, T]`."""
    if isinstance(one.attention, Tensor):
        return one.attention.reshape(one.width, one.width)
    everyone = torch.ones(one.width, one.width, dtype=torch.bool, device=device)
    return everyone if one.attention is Attention.BLOCK else everyone.tril_()
