"""The vocabulary projection of selected rows, fused with the scores of its logits.

`z = hidden[rows] @ weight^T`, then the scores of `token_scores`, for the kernel without ever
writing z. Bytes moved: the weight once (`V * D` elements) for up to 64 rows; the hidden rows and
20 bytes for each row and tile of 128 ids are negligible.

A weight-only product of more rows is compute bound, and there cuBLAS followed by the one-pass
`score_all` wins (published measurements: the Triton product is 17-21 % slower): above
`FUSED_ROWS` rows that is what runs.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fim_kernels.dispatch import use_triton
from fim_kernels.token_scores import score_all, score_all_reference
from fim_kernels.types import FullScores

FUSED_ROWS = 64


def score_head(hidden: Tensor, weight: Tensor, rows: Tensor | None = None) -> FullScores:
    """Scores of the next token (or of the masked one) for some rows of hidden states.

    hidden: `[N, D]`; weight: `[V, D]` of the same dtype; rows: int64 `[R]`, which rows of hidden
    to score, or None for all; -1 marks an unused entry, whose scores are zero (so that a
    CUDA graph of fixed R serves any number of masks). Returns fields `[R]`.

    The kernel keeps logits in float32; the reference rounds them to hidden's dtype first.
    """
    count = hidden.shape[0] if rows is None else rows.shape[0]
    if use_triton(hidden, weight):
        from fim_kernels.lm_head_triton import score_head_triton

        if count <= FUSED_ROWS:
            return score_head_triton(hidden, weight, rows)
        return _unread_as_zero(score_all(F.linear(_rows(hidden, rows), weight)), rows)
    return score_head_reference(hidden, weight, rows)


def score_head_reference(hidden: Tensor, weight: Tensor, rows: Tensor | None = None) -> FullScores:
    return _unread_as_zero(score_all_reference(F.linear(_rows(hidden, rows), weight)), rows)


def _rows(hidden: Tensor, rows: Tensor | None) -> Tensor:
    return hidden if rows is None else hidden[rows.clamp_min(0)]


def _unread_as_zero(scores: FullScores, rows: Tensor | None) -> FullScores:
    if rows is None:
        return scores
    unread = rows < 0
    return FullScores(
        scores.token.masked_fill(unread, 0),
        scores.confidence.masked_fill(unread, 0),
        scores.entropy.masked_fill(unread, 0),
        scores.margin.masked_fill(unread, 0),
        scores.log_sum_exp.masked_fill(unread, 0),
    )
