"""A model's predictions at some positions, computed only as far as they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fim_kernels.token_scores import score_tokens_reference
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.contract import Network


class Predictions:
    """N rows of hidden states before the vocabulary.

    Greedy decoding reads `scores`, for which a GPU never writes logits to memory; sampling and
    likelihoods read `logits`. Both must be read before the network's next forward.
    """

    __slots__ = ("_hidden", "_network")

    def __init__(self, network: Network, hidden: Tensor) -> None:
        """hidden: `[N, hidden_size]`, on the model's device."""
        self._network, self._hidden = network, hidden

    @torch.inference_mode()
    def scores(self) -> TokenScores:
        """Fields `[N]`, on the CPU."""
        found = self._network.scores(self._hidden)
        return TokenScores(found.token.cpu(), found.confidence.cpu(), found.entropy.cpu())

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """`[N, vocab_size]`, on the CPU."""
        return self._network.logits(self._hidden).cpu()


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
