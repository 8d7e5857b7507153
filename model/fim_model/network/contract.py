"""What decoding asks of a network: the one seam between the decoding core and how forwards run.

| implementation | where |
|---|---|
| `transformer.TriModeTransformer` | anywhere, training included; it defines every result |
| `cpu.PackedTransformer` | a CPU: fewer and larger operations |
| `cpu_onnx.OnnxTransformer` | a CPU with 8-bit weights, where ONNX Runtime works |
| `cuda.DeviceTransformer` | CUDA: fused operations in CUDA graphs |
| `batching.BatchedNetwork` | around any of these: the forwards of several threads as one |

All give the same tokens. `choice.fast_network` decides which one runs, once, where a checkpoint is
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora


@dataclass(frozen=True, slots=True)
class Shared:
    """What a thread's calls shared with other threads: seconds waited for their passes, and rows of
    theirs in its own."""

    waited: float = 0.0
    rows: int = 0

    def and_then(self, waited: float, rows: int) -> Shared:
        return Shared(self.waited + waited, self.rows + rows)


class Network(Protocol):
    """A loaded model. Hidden states may be in a buffer that the next forward overwrites.

    draft_lora: what the checkpoint brings for drafting, None for most. device_drafting: draft steps
    without the host, None where the host takes each step.
    """

    config: ModelConfig
    draft_lora: DraftLora | None

    @property
    def device_drafting(self) -> DeviceDrafting | None: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def cache_dtype(self) -> torch.dtype:
        """Of the keys and values in its caches, where that is up to the network; it takes others
        too."""
        ...

    @property
    def products(self) -> str:
        """What the layers' products multiply, in words."""
        ...

    @property
    def shared(self) -> Shared:
        """What this thread shared with others so far; nothing where threads do not meet."""
        ...

    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """One forward over tokens of several caches: the hidden states `[1, T, hidden_size]` of
        each part.

        The caches are written but not advanced, and share one adapter, or none (ValueError).
        `lora` is for drafts alone: what it changes must never be kept.
        """
        ...

    def placed(self, adapter: Adapter) -> Adapter:
        """An adapter in this network's dtype, device and order, as its caches are given it."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `[T, hidden_size]` to logits `[T, vocab_size]`."""
        ...

    def scores(self, hidden: Tensor) -> TokenScores:
        """Hidden states `[T, hidden_size]` to scores `[T]`, for which logits need not be kept."""
        ...


def forward_one(
    network: Network,
    tokens: Tensor,
    positions: Tensor,
    attention: Attention | Tensor,
    cache: KVCache,
    lora: DraftLora | None = None,
) -> Tensor:
    """A forward over one cache: hidden states `[1, T, hidden_size]` of tokens `[1, T]`.

    Raises ValueError for several rows of tokens.
    """
    return network.forward_parts([Part(tokens, positions, attention, cache)], lora)[0]


class DeviceDrafting(Protocol):
    """Draft steps that stay on the device: forward, scores, selection and canvas update.

    A step reveals every mask with `confidence >= threshold`, and the most confident one in any
    case: `ConfidenceThreshold` with the arg-max of each row. `widest` is the most positions of a
    block.
    """

    widest: int

    def begin(self, block: Part, masked: Tensor, threshold: float) -> Drafts:
        """Draft steps over a block; `masked` (bool `[T]`) says which of its tokens are masks.

        Until they are taken, the cache's length must not change and no other block may be begun
        over it.
        """
        ...


class Drafts(Protocol):
    """The draft steps of one block."""

    def run(self, steps: int) -> Drafted:
        """Take further steps; where no mask is left, a step changes nothing but the ages."""
        ...


@dataclass(frozen=True, slots=True)
class Drafted:
    """A block after some draft steps; fields `[T]`, on the CPU.

    tokens: int64, without meaning where `masked` (bool). confidence: float32, the probability that
    a token was revealed with. age: int64, steps since then.
    """

    tokens: Tensor
    masked: Tensor
    confidence: Tensor
    age: Tensor
