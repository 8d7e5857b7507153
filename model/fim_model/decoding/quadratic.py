"""Quadratic self-speculation: one forward a round verifies a draft and holds the next one.

Row i of a round is `[head_i, MASK x R]`: the heads are the seed and at most R - 1 drafted tokens,
causal among themselves; the masks of row i see the heads up to i and their own row, and stand at
the positions after head i. The heads' logits verify the draft; whatever its accepted length n, the
masks of row n are the next draft already, made in the same forward. It costs up to `R * (R + 1)`
positions, so it pays where a forward's width is free (Nemotron-Labs-Diffusion; TiDAR,
arXiv 2511.08923).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fim_model.decoding.core import DecodingCore, ForwardKind, Steps
from fim_model.decoding.sampling import Draft


def quadratic_speculation(core: DecodingCore, width_budget: int) -> Steps:
    """Yields one step a forward. Greedy output is the autoregressive output."""
    max_masks = masks_within(width_budget, core.block_size)
    draft = Draft.nothing()
    while core.finish is None:
        before = len(core.tokens)
        # A round adds a token to its draft, and the first mask stands for that token.
        masks = min(max_masks, core.left - 1)
        draft = draft.first(core.left - 1)
        heads = torch.cat((torch.tensor(core.tokens[-1:]), draft.tokens))
        count = len(heads)
        tokens = torch.full((count * (1 + masks),), core.model.config.mask_id)
        tokens[:count] = heads
        positions = row_positions(core.cache.length, count, masks)
        hidden = core.forward(tokens, row_pattern(count, masks), positions)

        accepted = core.sampler.accept_draft(core.predictions(hidden[:count]), draft)
        row = len(accepted.tokens) - 1
        core.keep(row + 1)
        core.commit(accepted.tokens, accepted.confidences)
        yield core.step(ForwardKind.VERIFY, len(tokens), before)
        # The row's first mask stands for the token that verification has just chosen.
        next_draft = hidden[count:].unflatten(0, (count, masks))[row, 1:]
        draft = core.sampler.draft(core.predictions(next_draft)).until(core.stop.eom_id)


def masks_within(width_budget: int, block_size: int) -> int:
    """Masks R a row, the most with `R * (R + 1) <= width_budget` and `1 + R <= block_size`.

    At least 2: with fewer there is nothing to draft.
    """
    affordable = (math.isqrt(4 * width_budget + 1) - 1) // 2
    return max(2, min(affordable, block_size - 1))


def row_pattern(heads: int, masks: int) -> Tensor:
    """Boolean `[T, T]`, T = heads * (1 + masks): the heads first, then each row's masks."""
    row_of_mask = torch.arange(heads).repeat_interleave(masks)
    row = torch.cat((torch.arange(heads), row_of_mask))
    is_head = torch.arange(len(row)) < heads
    earlier_head = is_head & (row[None, :] <= row[:, None])
    own_row_masks = ~is_head[:, None] & ~is_head & (row[None, :] == row[:, None])
    return earlier_head | own_row_masks


def row_positions(start: int, heads: int, masks: int) -> Tensor:
    """int64 `[T]`: head i at `start + i`, its masks right after it."""
    head = torch.arange(start, start + heads)
    after = head[:, None] + torch.arange(1, masks + 1)
    return torch.cat((head, after.flatten()))
