"""What decoding asks of a model: the one seam between the decoding core and how forwards run.

`TriModeTransformer` is the plain network, which defines every result. `PackedTransformer` is the
same on a CPU with fewer and larger operations, `DeviceTransformer` on CUDA, as graphs. All give the
same tokens; which one runs is decided once, where a checkpoint is loaded (`fast_network`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.attention_mask import AttentionPattern
from fim_model.network.batch_parts import Part
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora


@dataclass(frozen=True, slots=True)
class Drafted:
    """A block after some draft steps; fields `[T]`, on the CPU.

    tokens: int64, of no meaning where `masked` (bool). confidence: float32, the probability that a
    token was revealed with. age: int64, steps since then.
    """

    tokens: Tensor
    masked: Tensor
    confidence: Tensor
    age: Tensor


class Drafts(Protocol):
    """Draft steps over one block. A step reveals every mask with `confidence >= threshold`, and the
    most confident one in any case: `ConfidenceThreshold` with the arg-max of each row."""

    def run(self, steps: int) -> Drafted:
        """Take so many more; where no mask is left, a step changes nothing but the ages."""
        ...


class Network(Protocol):
    """A loaded model. Hidden states may live in a buffer that its next forward overwrites."""

    config: ModelConfig
    draft_lora: DraftLora | None

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionPattern,
        cache: KVCache,
        lora: DraftLora | None = None,
    ) -> Tensor:
        """One pass over T tokens behind what the cache keeps; see `TriModeTransformer.forward`.

        tokens, positions: int64 `[1, T]`. Returns hidden states `[1, T, hidden_size]`.
        """
        ...

    def together(self, parts: Sequence[Part], lora: DraftLora | None = None) -> list[Tensor]:
        """The forwards of several caches; the hidden states `[1, T, hidden_size]` of each."""
        ...

    def drafts(self, block: Part, masked: Tensor, threshold: float) -> Drafts | None:
        """Draft steps over a block (BLOCK attention, bool `[T]` which are masks) without the host.

        None where that gains nothing. The cache must keep what it keeps while they are taken, and
        no other block over it may be begun.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `[T, hidden_size]` to logits `[T, vocab_size]`."""
        ...

    def scores(self, hidden: Tensor) -> TokenScores:
        """Scores `[T]` of hidden states `[T, hidden_size]`, where nobody needs their logits."""
        ...
