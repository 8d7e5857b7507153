"""A model's predictions at some positions, computed only as far as they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fim_kernels.token_scores import score_tokens, score_tokens_reference
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.contract import Network


class Predictions:
    """N rows of hidden states before the vocabulary.

    Greedy decoding reads `scores`, for which a GPU never writes logits to memory; sampling and
    likelihoods read `logits`. Both must be read before the network's next forward.
    """

    __slots__ = ("_hidden", "_network", "_never")

    def __init__(self, network: Network, hidden: Tensor, never: Sequence[int] = ()) -> None:
        """hidden: `[N, hidden_size]`, on the model's device. never: ids of probability 0."""
        self._network, self._hidden, self._never = network, hidden, list(never)

    @torch.inference_mode()
    def scores(self) -> TokenScores:
        """Fields `[N]`, on the CPU."""
        network, hidden = self._network, self._hidden
        found = score_tokens(self._allowed()) if self._never else network.scores(hidden)
        return TokenScores(found.token.cpu(), found.confidence.cpu(), found.entropy.cpu())

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """`[N, vocab_size]`, on the CPU."""
        return self._allowed().cpu()

    def _allowed(self) -> Tensor:
        logits = self._network.logits(self._hidden)
        if self._never:
            # Not infinite: entropy multiplies the logarithm by the probability.
            never = torch.tensor(self._never, device=logits.device)
            logits = logits.float().index_fill(-1, never, torch.finfo(torch.float32).min)
        return logits


Predicted = Predictions | Tensor
"""Predictions, or logits `[N, vocab_size]` that are already on the CPU."""


def scores_of(rows: Predicted) -> TokenScores:
    return rows.scores() if isinstance(rows, Predictions) else score_tokens_reference(rows)


def logits_of(rows: Predicted) -> Tensor:
    return rows.logits() if isinstance(rows, Predictions) else rows


def log_probabilities(logits: Tensor, ids: Sequence[int]) -> list[float]:
    """Of ids `[T]`, in nats; row i of logits `[T, V]` predicts id i."""
    wanted = torch.tensor(ids, dtype=torch.int64)
    nats = F.cross_entropy(logits.float(), wanted, reduction="none")
    return [-value for value in nats.tolist()]
