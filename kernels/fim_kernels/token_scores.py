"""The scores that decoding rules read from a row of logits.

With `l = log softmax(z)`: `confidence = exp(max l)`, `entropy = -sum(exp(l) * l)`, `margin` = the
difference of the two largest probabilities, `log_sum_exp = log sum exp z`. Bytes moved by the
kernel: the logits once.
"""

from __future__ import annotations

from torch import Tensor

from fim_kernels.dispatch import use_triton
from fim_kernels.types import FullScores, TokenScores


def score_tokens(logits: Tensor) -> TokenScores:
    """logits: `[..., V]`, finite, any float dtype; computed in float32.

    Entropy and confidence come from `l`, not from z: where logits are large, their differences are
    what float32 can still tell. The first of several equal maxima is the token.
    """
    if use_triton(logits):
        from fim_kernels.token_scores_triton import score_all_triton

        return score_all_triton(logits)
    return score_tokens_reference(logits)


def score_tokens_reference(logits: Tensor) -> TokenScores:
    """Also for logits that are on the host although the model is not, where no kernel can run."""
    wide = logits.float()
    logs = wide.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    token = wide.argmax(-1)
    return TokenScores(token, logs.gather(-1, token[..., None])[..., 0].exp(), entropy)


def score_all(logits: Tensor) -> FullScores:
    """`score_tokens` with margin and log_sum_exp; logits `[..., V]`, V >= 2."""
    if use_triton(logits):
        from fim_kernels.token_scores_triton import score_all_triton

        return score_all_triton(logits)
    return score_all_reference(logits)


def score_all_reference(logits: Tensor) -> FullScores:
    wide = logits.float()
    logs = wide.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    best = logs.topk(2, dim=-1).values.exp()
    margin = best[..., 0] - best[..., 1]
    return FullScores(wide.argmax(-1), best[..., 0], entropy, margin, wide.logsumexp(-1))
