"""The keys and values of tokens already read, in buffers allocated once."""

from __future__ import annotations

import torch
from torch import Tensor

from fim_model.config import ModelConfig


class KVCache:
    """Static KV buffers `[layers][B, kv_heads, capacity, head_dim]` and how much of them is kept.

    A forward writes the keys of its T tokens at `length .. length + T` and sees everything up to
    there; nothing counts as kept until the caller says `advance(T)`. A draft over masks is thus
    written as scratch and overwritten by whatever comes next, and taking tokens back is `crop`.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int = 1,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        self.capacity = capacity
        self.length = 0
        layers = range(config.num_hidden_layers)
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]

    @property
    def nbytes(self) -> int:
        """What the buffers take, however much of them is kept."""
        return sum(buffer.nbytes for buffer in (*self._keys, *self._values))

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Place `[B, kv_heads, T, head_dim]` after the kept tokens; return all that is visible."""
        end = self.length + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"the KV cache holds {self.capacity} tokens, {end} were asked for")
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, count: int) -> None:
        """Keep the first `count` of the tokens written last."""
        if not 0 <= count <= self.capacity - self.length:
            raise ValueError(f"cannot keep {count} more tokens after {self.length}")
        self.length += count

    def crop(self, length: int) -> None:
        """Forget every token from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop {self.length} tokens to {length}")
        self.length = length
