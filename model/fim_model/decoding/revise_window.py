"""Revise a window: re-mask unlikely tokens, refill them, keep the change if it is likelier.

Every editable token is scored with both sides in view, as if it alone were masked: the window is
read once for each token, all as rows of one forward, so that no score has seen its own token.
(WINO's shadow block, arXiv 2507.18578, is cheaper, but through its neighbours a token's shadow does
see the token.) Doubtful tokens and their neighbours become masks, the block is denoised again, and
the change is kept only if it makes the window likelier by a margin. A token is re-masked at most
once, and the number of rounds is bounded: revision always ends and never grows the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fim_model.decoding.canvas import Canvas
from fim_model.decoding.commit_rules import CommitRule
from fim_model.decoding.core import DecodingCore, ForwardKind, Step
from fim_model.decoding.denoise import denoise


@dataclass(frozen=True, slots=True)
class RevisionRule:
    """When to re-mask, and when to keep what was refilled.

    remask_below: the probability, given both sides, below which a token is re-masked, with
    `neighbours` tokens on each side; at most the unlikeliest `share` of the window. margin: nats
    by which the window must become likelier, given both sides and causally. rounds: at most.
    """

    remask_below: float = 0.05
    neighbours: int = 0
    share: float = 0.5
    margin: float = 1.0
    rounds: int = 4


@dataclass(frozen=True, slots=True)
class Revision:
    """A window's tokens after revision, int64 `[T]`, and by how many nats they are likelier.

    log_probability: nats of the editable ones, each with both sides in view.
    """

    tokens: Tensor
    gain: float
    log_probability: float


def revise_window(
    core: DecodingCore, window: Tensor, editable: Tensor, rule: RevisionRule, commit: CommitRule
) -> Iterator[Step | Revision]:
    """Revise a window of tokens that follow what the cache keeps; the last item is the Revision.

    window: int64 `[T]`, T at most the block size. editable: bool `[T]`; the others are context.
    """
    if len(window) > core.block_size:
        raise ValueError(f"a window has at most {core.block_size} tokens, not {len(window)}")
    if not editable.any():
        yield Revision(window, 0.0, 0.0)
        return
    start = now = Likelihood.of(core, window, editable)
    settled = ~editable
    for _ in range(rule.rounds):
        doubtful = _doubtful(now.both_sides, settled, rule)
        if not doubtful.any():
            break
        canvas = Canvas.with_masks(window, doubtful, core.model.config.mask_id)
        yield _remasked(canvas, doubtful, int(editable.sum()))
        for revealed in denoise(core, canvas, commit):
            yield _revealed(canvas, revealed)
        if not torch.equal(canvas.tokens, window):
            then = Likelihood.of(core, canvas.tokens, editable)
            if then.gain_over(now) > rule.margin:
                window, now = canvas.tokens, then
        settled = settled | doubtful
    yield Revision(window, now.gain_over(start), float(now.both_sides.sum()))


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a window is, in nats: each editable token by both sides, and all of it causally.

    Each catches what the other misses: text that repeats itself looks likely from both sides, text
    that does not fit what follows looks likely from the left.
    """

    both_sides: Tensor
    causal: float

    @classmethod
    def of(cls, core: DecodingCore, window: Tensor, editable: Tensor) -> Likelihood:
        """Two forwards."""
        return cls(
            both_sides_log_probabilities(core, window, editable),
            causal_log_probability(core, window),
        )

    def gain_over(self, other: Likelihood) -> float:
        """The smaller of the two gains."""
        both_sides = float(self.both_sides.sum() - other.both_sides.sum())
        return min(both_sides, self.causal - other.causal)


def causal_log_probability(core: DecodingCore, window: Tensor) -> float:
    """Log-probability of tokens `[T]` but the first, read from left to right; one forward."""
    logits = core.causal(window).logits()[:-1]
    return -float(F.cross_entropy(logits.float(), window[1:], reduction="sum"))


def both_sides_log_probabilities(core: DecodingCore, window: Tensor, where: Tensor) -> Tensor:
    """Log-probability of each token at `where` (bool `[T]`) given all others, float32 `[T]`.

    One forward of `where.sum()` rows of T tokens; 0 at all other positions.
    """
    asked = where.nonzero().squeeze(1)
    count, size = len(asked), len(window)
    rows = window.repeat(count, 1)
    rows[torch.arange(count), asked] = core.model.config.mask_id
    positions = torch.arange(size).repeat(count) + core.cache.length
    row = torch.arange(count).repeat_interleave(size)
    hidden = core.forward(rows.flatten(), row[:, None] == row, positions)
    logits = core.predictions(hidden[torch.arange(count) * size + asked]).logits()
    found = torch.zeros(size)
    found[asked] = -F.cross_entropy(logits.float(), window[asked], reduction="none")
    return found


def _doubtful(log_probabilities: Tensor, settled: Tensor, rule: RevisionRule) -> Tensor:
    """Which positions to re-mask, bool `[T]`."""
    probability = log_probabilities.exp().masked_fill(settled, 1.0)
    most = max(1, int(rule.share * len(probability)))
    unlikeliest = torch.zeros_like(settled)
    unlikeliest[probability.argsort()[:most]] = True
    doubted = unlikeliest & (probability < rule.remask_below)
    if rule.neighbours:
        width = 2 * rule.neighbours + 1
        near = F.max_pool1d(doubted.float()[None], width, stride=1, padding=rule.neighbours)
        doubted = near[0] > 0
    return doubted & ~settled


def _remasked(canvas: Canvas, doubtful: Tensor, rows: int) -> Step:
    where = tuple(doubtful.nonzero().squeeze(1).tolist())
    hole = tuple(canvas.tokens.tolist())
    return Step(ForwardKind.SCORE, rows * len(hole), hole, (), (), remasked=where)


def _revealed(canvas: Canvas, revealed: Tensor) -> Step:
    where = revealed.nonzero().squeeze(1)
    confidences = tuple(canvas.confidence[where].tolist())
    hole = tuple(canvas.tokens.tolist())
    return Step(ForwardKind.DRAFT, len(hole), hole, tuple(where.tolist()), confidences)
