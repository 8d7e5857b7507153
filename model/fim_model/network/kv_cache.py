"""The keys and values of computed tokens, in a buffer allocated once."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.config import ModelConfig

ROOM_STEP = 256
"""Buffers have room for a multiple of this many tokens, so that attention on a CPU may look at a
round number of keys (`cpu_attention.SPAN`)."""


PAGE = 4096
"""Bytes of memory that a system gives at once, on most machines."""


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on a CPU in a mapping of their own, which takes memory only where it is written.

    Most documents fill a small part of a window. Zeros, since attention reads a round number of
    keys, and what is masked must at least be a number.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    mapping = mmap.mmap(-1, max(1, prod(shape) * dtype.itemsize), **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # A huge page spans the room of several heads: writing one token would take all of it.
        with contextlib.suppress(OSError):  # a kernel that has no huge pages
            mapping.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(mapping, dtype=dtype, count=prod(shape)).view(*shape)


class KVCache:
    """Static KV buffers `[layers][B, kv_heads, room, head_dim]` and how much of them is kept.

    A forward writes the keys of its T tokens at `length .. length + T` and sees everything up to
    there; nothing is kept until the caller calls `advance(T)`. So a draft over masks is scratch
    that the next forward overwrites. `crop` takes tokens back.

    adapter: whose updates every forward over this cache adds, None for the base alone. It changes
    only while nothing is kept.
    """

    adapter: Adapter | None = None

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int = 1,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        heads, dim = config.num_key_value_heads, config.head_dim
        self.room = -(-capacity // ROOM_STEP) * ROOM_STEP
        shape = (2, config.num_hidden_layers, batch, heads, self.room, dim)
        self.capacity = capacity
        self.length = 0
        # One buffer, so that the views of all layers are two calls and not two for each layer.
        self._buffer = _zeros(shape, dtype, torch.device(device))
        self._touched = 0
        keys, values = self._buffer.unbind(0)
        self.keys, self.values = keys.unbind(0), values.unbind(0)

    @property
    def nbytes(self) -> int:
        """Memory of the buffers: on a CPU only as much of them as was ever written, in whole
        pages."""
        if self._buffer.device.type != "cpu":
            return self._buffer.nbytes
        row = self._buffer[0, 0, 0, 0, 0].nbytes
        rows = max(1, PAGE // row)
        return self._buffer.nbytes // self.room * min(-(-self._touched // rows) * rows, self.room)

    def slots(self, width: int) -> Sequence[Tensor]:
        """Where the keys, then the values, of `width` tokens after the kept ones go in each layer.

        Views `[2, kv_heads, T, head_dim]` of the first row. Raises ValueError past the capacity.
        """
        end = self.end(width)
        return self._buffer[:, :, 0, :, self.length : end].unbind(1)

    def first(self, span: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Keys and values of the first `span` places of each layer, kept or not, as views
        `[B, kv_heads, span, head_dim]`."""
        keys, values = self._buffer[..., :span, :].unbind(0)
        return keys.unbind(0), values.unbind(0)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Place `[B, kv_heads, T, head_dim]` after the kept tokens; return all that is visible."""
        end = self.end(key.shape[2])
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def end(self, width: int) -> int:
        """Where `width` more tokens would end. Raises ValueError past the capacity."""
        end = self.length + width
        if end > self.capacity:
            raise ValueError(f"the KV cache holds {self.capacity} tokens, {end} were asked for")
        self._touched = max(self._touched, end)
        return end

    def advance(self, count: int) -> None:
        """Keep the first `count` of the tokens written last."""
        if not 0 <= count <= self.capacity - self.length:
            raise ValueError(f"cannot keep {count} more tokens after {self.length}")
        self.length += count

    def keep(self, places: Sequence[int]) -> None:
        """Keep some of the tokens written last and close the gaps: those of one branch of a tree.

        places: ascending, counted from 0.
        """
        count = len(places)
        if list(places) != list(range(count)):
            chosen = torch.tensor(places, device=self._buffer.device) + self.length
            kept = self._buffer[..., chosen, :]
            self._buffer[..., self.length : self.length + count, :] = kept
        self.advance(count)

    def crop(self, length: int) -> None:
        """Drop every token from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop {self.length} tokens to {length}")
        self.length = length
