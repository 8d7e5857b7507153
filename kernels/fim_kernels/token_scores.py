"""What a decoding rule needs to know of a row of logits, without keeping the row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Per row of logits; every tensor `[...]` without the vocabulary dimension.

    token: arg-max id, int64. confidence: its probability. entropy: in nats.
    """

    token: Tensor
    confidence: Tensor
    entropy: Tensor


def score_tokens(logits: Tensor) -> TokenScores:
    """logits: `[..., V]`, any float dtype; computed in float32.

    `confidence = exp(z_max - lse)`, `entropy = lse - sum(p * z)` with `lse = log sum exp z`.
    """
    wide = logits.float()
    best, token = wide.max(-1)
    lse = wide.logsumexp(-1)
    expected = ((wide - lse.unsqueeze(-1)).exp() * wide).sum(-1)
    return TokenScores(token, (best - lse).exp(), (lse - expected).clamp_min(0))
