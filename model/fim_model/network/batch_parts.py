"""The parts of a forward: tokens after one cache each, concatenated, each seeing its own cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class Part:
    """T tokens after what a cache keeps.

    tokens, positions: int64 `[1, T]`. attention: who sees whom among these T (a tensor: bool
    `[T, T]`); all see the cache. Raises ValueError for several rows, and for the attention of a
    training batch.
    """

    tokens: Tensor
    positions: Tensor
    attention: Attention | Tensor
    cache: KVCache

    def __post_init__(self) -> None:
        if self.tokens.shape[0] != 1 or not isinstance(self.attention, Attention | Tensor):
            raise ValueError("a forward takes one row of tokens of each cache, no training batch")

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    @property
    def span(self) -> int:
        return self.cache.length + self.width


class PackedCache(KVCache):
    """Several caches (batch 1) as one, for a forward over their concatenated parts.

    It can only be written to; each cache is advanced by its own decoding.
    """

    def __init__(self, caches: Sequence[KVCache], widths: Sequence[int]) -> None:
        self._caches, self._widths = caches, widths
        self.adapter = caches[0].adapter
        self.length = sum(cache.length for cache in caches)
        self.capacity = sum(cache.capacity for cache in caches)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write each part of `[1, kv_heads, T, head_dim]` to its cache.

        Returns the visible keys and values of all caches, concatenated.
        """
        keys, values = key.split(list(self._widths), dim=2), value.split(list(self._widths), dim=2)
        seen = [
            cache.write(layer, new_key, new_value)
            for cache, new_key, new_value in zip(self._caches, keys, values, strict=True)
        ]
        seen_keys, seen_values = zip(*seen, strict=True)
        return torch.cat(seen_keys, dim=2), torch.cat(seen_values, dim=2)


def shared_adapter(parts: Sequence[Part]) -> Adapter | None:
    """The adapter of all parts. Raises ValueError if their caches have different ones."""
    adapter = parts[0].cache.adapter
    if any(part.cache.adapter is not adapter for part in parts):
        raise ValueError("a forward takes caches of one adapter")
    return adapter


def packed_pattern(parts: Sequence[Part]) -> Tensor:
    """Boolean `[1, T1 + T2 + …, S1 + S2 + …]`: each part sees its own cache and tokens."""
    device = parts[0].tokens.device
    width, span = sum(part.width for part in parts), sum(part.span for part in parts)
    pattern = torch.zeros(1, width, span, dtype=torch.bool, device=device)
    row = column = 0
    for part in parts:
        new = column + part.cache.length
        pattern[0, row : row + part.width, column:new] = True
        pattern[0, row : row + part.width, new : new + part.width] = among_new(part, device)
        row, column = row + part.width, column + part.span
    return pattern


def among_new(part: Part, device: torch.device) -> Tensor:
    """Who (row) sees whom among a part's own tokens, boolean `[T, T]`."""
    if isinstance(part.attention, Tensor):
        return part.attention.reshape(part.width, part.width)
    everyone = torch.ones(part.width, part.width, dtype=torch.bool, device=device)
    return everyone if part.attention is Attention.BLOCK else everyone.tril_()
