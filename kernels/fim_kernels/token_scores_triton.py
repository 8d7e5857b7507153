# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernels of `score_all`: statistics of tiles of the vocabulary, then a small combine.

A tile `t` of a row is summed up by its maximum `m_t`, the first id that has it, the runner-up
`r_t`, `s_t = sum exp(z - m_t)` and `w_t = sum exp(z - m_t) (z - m_t)`. The combine shifts them to
the row's maximum M: `s = sum_t e^(m_t - M) s_t`, `w = sum_t e^(m_t - M) (w_t + (m_t - M) s_t)`;
then `confidence = 1/s`, `entropy = log s - w/s`, `margin = (1 - e^(r - M))/s`, `lse = M + log s`.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fim_kernels.types import FullScores

BLOCK_VOCABULARY = 4096
NO_TOKEN = tl.constexpr(0x7FFFFFFF)


@triton.jit
def store_tile_statistics(b_z, o_v, m_v, p_stats, p_token, o_out, m_out, plane):
    """Statistics over axis 0 of logits `[BLOCK_V, ROWS]` for the ids `o_v` where `m_v`.

    `p_stats` has four planes of `plane` elements: maximum, runner-up, s, w.
    """
    b_z = tl.where(m_v[:, None], b_z, -float("inf"))
    b_best = tl.max(b_z, axis=0)
    b_token = tl.min(tl.where(b_z == b_best[None, :], o_v[:, None], NO_TOKEN), axis=0)
    b_second = tl.max(tl.where(o_v[:, None] == b_token[None, :], -float("inf"), b_z), axis=0)
    b_shifted = b_z - b_best[None, :]
    b_exp = tl.exp(b_shifted)
    b_weighted = tl.where(b_exp > 0, b_exp * b_shifted, 0.0)  # 0 * -inf is not 0
    tl.store(p_token + o_out, b_token, mask=m_out)
    tl.store(p_stats + o_out, b_best, mask=m_out)
    tl.store(p_stats + plane + o_out, b_second, mask=m_out)
    tl.store(p_stats + 2 * plane + o_out, tl.sum(b_exp, axis=0), mask=m_out)
    tl.store(p_stats + 3 * plane + o_out, tl.sum(b_weighted, axis=0), mask=m_out)


@triton.jit
def _logit_statistics(
    p_logits, p_stats, p_token, vocabulary, tiles, plane, BLOCK: tl.constexpr
):  # fmt: skip
    i_tile, i_row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    o_v = i_tile * BLOCK + tl.arange(0, BLOCK)
    m_v = o_v < vocabulary
    b_z = tl.load(p_logits + i_row * vocabulary + o_v, mask=m_v, other=0.0).to(tl.float32)
    o_out = i_row * tiles + i_tile + tl.arange(0, 1)
    store_tile_statistics(
        b_z[:, None], o_v, m_v, p_stats, p_token, o_out, o_out >= 0, plane
    )  # fmt: skip


@triton.jit
def _combine(
    p_stats, p_tile_token, p_rows, p_token, p_scores, n_rows, vocabulary, tiles, plane,
    SELECTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row; unused rows (a negative `p_rows`) become zeros."""
    i_row = tl.program_id(0)
    if SELECTED and tl.load(p_rows + i_row) < 0:
        token = tl.zeros((), tl.int64)
        confidence, entropy, margin, lse = 0.0, 0.0, 0.0, 0.0
    else:
        o_t = tl.arange(0, BLOCK)
        m_t = o_t < tiles
        p_tile = p_stats + i_row.to(tl.int64) * tiles + o_t
        b_best = tl.load(p_tile, mask=m_t, other=-float("inf"))
        b_second = tl.load(p_tile + plane, mask=m_t, other=-float("inf"))
        b_sum = tl.load(p_tile + 2 * plane, mask=m_t, other=0.0)
        b_weighted = tl.load(p_tile + 3 * plane, mask=m_t, other=0.0)
        b_token = tl.load(p_tile_token + i_row.to(tl.int64) * tiles + o_t, mask=m_t, other=NO_TOKEN)
        best = tl.max(b_best, axis=0)
        first = tl.min(tl.where(b_best == best, b_token, NO_TOKEN), axis=0)
        # Without a maximum (NaN logits) the id would point outside the vocabulary.
        token = tl.minimum(first, vocabulary - 1).to(tl.int64)
        second = tl.max(tl.where(b_token == first, b_second, b_best), axis=0)
        b_shift = tl.where(m_t, b_best - best, 0.0)
        b_scale = tl.where(m_t, tl.exp(b_shift), 0.0)
        total = tl.sum(b_scale * b_sum, axis=0)
        weighted = tl.sum(b_scale * (b_weighted + b_shift * b_sum), axis=0)
        confidence = 1.0 / total
        entropy = tl.log(total) - weighted / total
        margin = (1.0 - tl.exp(second - best)) / total
        lse = best + tl.log(total)
    tl.store(p_token + i_row, token)
    tl.store(p_scores + i_row, confidence)
    tl.store(p_scores + n_rows + i_row, entropy)
    tl.store(p_scores + 2 * n_rows + i_row, margin)
    tl.store(p_scores + 3 * n_rows + i_row, lse)


@dataclass(frozen=True, slots=True)
class TileStatistics:
    """Scratch between the two kernels. stats: float32 `[4, rows, tiles]`; token: int32."""

    stats: Tensor
    token: Tensor

    @classmethod
    def empty(cls, rows: int, tiles: int, device: torch.device) -> "TileStatistics":
        return cls(
            torch.empty(4, rows, tiles, dtype=torch.float32, device=device),
            torch.empty(rows, tiles, dtype=torch.int32, device=device),
        )

    def combine(self, vocabulary: int, selected: Tensor | None = None) -> FullScores:
        """Scores `[rows]`; `selected`: int64 `[rows]`, negative where the row was not computed."""
        rows, tiles = self.token.shape
        token = torch.empty(rows, dtype=torch.int64, device=self.token.device)
        scores = torch.empty(4, rows, dtype=torch.float32, device=self.token.device)
        _combine[(rows,)](
            self.stats, self.token, token if selected is None else selected, token, scores,
            rows, vocabulary, tiles, rows * tiles,
            SELECTED=selected is not None, BLOCK=triton.next_power_of_2(tiles), num_warps=4,
        )  # fmt: skip
        confidence, entropy, margin, log_sum_exp = scores
        return FullScores(token, confidence, entropy, margin, log_sum_exp)


def score_all_triton(logits: Tensor) -> FullScores:
    *shape, vocabulary = logits.shape
    logits = logits.contiguous()
    rows = logits.numel() // vocabulary
    block = min(BLOCK_VOCABULARY, triton.next_power_of_2(vocabulary))
    tiles = triton.cdiv(vocabulary, block)
    scratch = TileStatistics.empty(rows, tiles, logits.device)
    _logit_statistics[(tiles, rows)](
        logits, scratch.stats, scratch.token, vocabulary, tiles, rows * tiles,
        BLOCK=block, num_warps=8,
    )  # fmt: skip
    found = scratch.combine(vocabulary)
    return FullScores(
        *(part.view(shape) for part in (
            found.token, found.confidence, found.entropy, found.margin, found.log_sum_exp
        ))
    )  # fmt: skip
