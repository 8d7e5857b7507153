"""Who sees whom in a forward."""

from __future__ import annotations

from enum import Enum

from torch import Tensor

from fim_model.network.noisy_blocks import NoisyBlocks


class Attention(Enum):
    """Who sees whom in a forward. All see everything the cache keeps.

    CAUSAL: a token sees itself and what is before it; row i of the logits predicts token i + 1.
    BLOCK: the tokens of the forward see each other both ways; row i predicts token i itself.
    """

    CAUSAL = "causal"
    BLOCK = "block"


AttentionPattern = Attention | NoisyBlocks | Tensor
"""All that the plain network takes, training batches included. A boolean tensor `[T, T]` or
`[B, T, T]` says who (row) sees whom (column) among the tokens of the forward; all see what the
cache keeps."""
