"""Denoising a block: draft forwards and a commit rule, until it is full. All modes share this loop.

The host reads each forward's scores and selects. Where the network drafts on its device, for greedy
choice by a confidence threshold, the host launches a few steps and then reads the block. Both
reveal the same tokens in the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fim_model.decoding.canvas import Canvas
from fim_model.decoding.commit_rules import CommitRule, ConfidenceThreshold
from fim_model.decoding.core import DecodingCore
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.contract import Drafts

POLL_EVERY = 2
"""Steps on the device before the host reads the block: the most that a cancellation waits for, and
one more than the forwards that may turn out unnecessary. Not tuned on a GPU yet."""


def denoise(
    core: DecodingCore,
    canvas: Canvas,
    rule: CommitRule,
    *,
    positions: Tensor | None = None,
    end: int | None = None,
) -> Iterator[Tensor]:
    """Fill a block; after each forward, yield the positions that it revealed, bool `[B]`.

    positions: int64 `[B]`, None for consecutive ones after the cache. `end` is a token that ends
    the hole: the block is done when no mask is left before it.
    """
    drafts = _device_drafts(core, canvas, rule, positions)
    if drafts is not None:
        yield from _polled(core, canvas, drafts, end)
        return
    while not canvas.settled(end):
        scores = canvas.spread(core.sampler.choose(core.draft(canvas, positions=positions)))
        revealed = rule(scores, canvas.masked)
        canvas.commit(revealed, scores.token, scores.confidence)
        yield revealed


def _device_drafts(
    core: DecodingCore, canvas: Canvas, rule: CommitRule, positions: Tensor | None
) -> Drafts | None:
    """The block's draft steps on the device, None where the host must take them."""
    drafting = core.model.device_drafting
    if drafting is None or len(canvas.tokens) > drafting.widest:
        return None
    if core.sampler.temperature or not isinstance(rule, ConfidenceThreshold):
        return None
    if positions is None:
        positions = torch.arange(core.cache.length, core.cache.length + len(canvas.tokens))
    block = Part(canvas.tokens[None], positions[None], Attention.BLOCK, core.cache)
    return drafting.begin(block, canvas.masked, rule.threshold)


def _polled(
    core: DecodingCore, canvas: Canvas, drafts: Drafts, end: int | None
) -> Iterator[Tensor]:
    """Forwards after the last necessary one are counted as well.

    Raises RuntimeError if the steps revealed nothing, which would loop for ever.
    """
    while not canvas.settled(end):
        masks = int(canvas.masked.sum())
        steps = min(POLL_EVERY, masks)  # each step reveals at least one
        block = drafts.run(steps)
        core.forwards += steps
        new = canvas.masked & ~block.masked
        for age in reversed(range(steps)):
            if canvas.settled(end):
                break
            revealed = new & (block.age == age)
            canvas.commit(revealed, block.tokens, block.confidence)
            yield revealed
        if int(canvas.masked.sum()) == masks:
            raise RuntimeError(f"{steps} draft steps on {core.model.device} revealed no token")
