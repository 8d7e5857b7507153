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
    """logits: `[..., V]`, finite, any float dtype; computed in float32.

    With `l = log softmax(z)`: `confidence = exp(max l)`, `entropy = -sum(exp(l) * l)`. Both from
    `l`, not from z: where logits are large, their differences are what float32 can still tell.
    """
    wide = logits.float()
    logs = wide.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    return TokenScores(wide.argmax(-1), logs.amax(-1).exp(), entropy)
