"""Infilling by a model that reads prefix, hole and suffix both ways at once: Dream, LLaDA, DreamOn.

The hole is a run of masks between both sides. A forward reads everything, and a commit rule reveals
some masks, until none is left. Since every token sees every other, a revealed token changes the
keys of all others: nothing is kept between forwards.

The length of the hole. DreamOn (arXiv 2602.01326) finds it by two tokens that it may predict for a
mask. *Expand* becomes two masks, up to the token limit. *Delete* takes the mask away, and with it
all masks to its right: it was trained on a hole whose surplus is at its end, and its released
evaluation does so. For other models several lengths are tried, one forward each, and compared by
`Phi(L)` as in `decoding/native.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fim_model.decoding.canvas import Canvas
from fim_model.decoding.commit_rules import CommitRule
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, Steps
from fim_model.decoding.native import LengthCalibration
from fim_model.network.attention_mask import Attention

LENGTHS = (2, 4, 8, 16, 32)
"""Hole lengths that are tried for a model that cannot change them."""

EXPANSIONS_PER_TOKEN = 2
"""How often masks may expand, for each token that the hole may have; as released."""


@dataclass(frozen=True, slots=True)
class LengthTokens:
    """The ids by which a mask asks for another mask beside it, and to be taken away."""

    expand: int
    delete: int


class CanvasReader:
    """Forwards over a hole between two sides. width: the tokens of the last one."""

    def __init__(self, core: DecodingCore, before: Sequence[int], after: Sequence[int]) -> None:
        """`before` is not empty. The core's cache must be; what is written there is scratch."""
        self._core = core
        self._before = torch.tensor(before, dtype=torch.int64)
        self._after = torch.tensor(after, dtype=torch.int64)
        self.width = 0

    def __call__(self, hole: Tensor) -> Tensor:
        """Hidden states `[L, D]` of hole `[L]`; row i predicts the hole's token i."""
        tokens = torch.cat((self._before, hole, self._after))
        self.width = len(tokens)
        first = len(self._before) - self._core.model.config.family.shifted
        return self._core.forward(tokens, Attention.BLOCK)[first : first + len(hole)]


def try_lengths(
    core: DecodingCore,
    read: CanvasReader,
    lengths: Sequence[int],
    calibration: LengthCalibration,
    found: list[int],
) -> Steps:
    """One forward for each length; afterwards `found` has the lengths, the best first."""
    mask = core.model.config.mask_id
    scores: dict[int, float] = {}
    for length in lengths:
        hole = torch.full((length,), mask)
        confidence = core.predictions(read(hole), [mask]).scores().confidence
        scores[length] = float(confidence.mean()) / calibration.at(length)
        yield Step(ForwardKind.SCORE, read.width, tuple(hole.tolist()), (), ())
    found += sorted(lengths, key=lambda length: -scores[length])


def fill_canvas(
    core: DecodingCore,
    read: CanvasReader,
    masks: int,
    rule: CommitRule,
    change: LengthTokens | None = None,
) -> Steps:
    """Fill a hole that begins with `masks` masks; `change` if the model changes their number."""
    mask, limit = core.model.config.mask_id, core.left
    canvas = Canvas.of(torch.full((masks,), mask), mask)
    left = EXPANSIONS_PER_TOKEN * limit
    sure = 0.0
    while not _done(core, canvas, change):
        room = min(limit - len(canvas.tokens), left)
        never = [mask, change.expand] if change and not room else [mask]
        rows = read(canvas.tokens)[canvas.masked]
        scores = canvas.spread(core.sampler.choose(core.predictions(rows, never)))
        revealed = rule(scores, canvas.masked)
        canvas.commit(revealed, scores.token, scores.confidence)
        if change is None:
            yield _step(read.width, canvas, revealed)
            continue
        sure = float(canvas.confidence[revealed][0])
        changed = resized(canvas, revealed, change, room, mask)
        canvas, left = changed.canvas, left - changed.grown
        yield _step(read.width, canvas, changed.revealed, changed.asked)
    settled = _settled(canvas)
    core.commit(canvas.tokens[:settled].tolist(), canvas.confidence[:settled].tolist())
    if not core.tokens:  # every mask was deleted
        core.commit([core.stop.eom_id], [sure])
    core.finish = core.finish or "filled"


@dataclass(frozen=True, slots=True)
class Resized:
    """A hole after masks expanded or were deleted.

    revealed, asked: bool, by position in the new hole: tokens of this forward, and masks that stand
    for an expand token. grown: how many masks were added.
    """

    canvas: Canvas
    revealed: Tensor
    asked: Tensor
    grown: int


def resized(
    canvas: Canvas, revealed: Tensor, change: LengthTokens, room: int, mask_id: int
) -> Resized:
    """The hole without its deleted masks, and two masks for each expand token.

    revealed: bool `[B]`, what this forward committed. room: how many masks may be added; the expand
    tokens beyond it, from the left, become one mask again.
    """
    deleted = revealed & (canvas.tokens == change.delete)
    behind = deleted.cumsum(0) > 0
    gone = behind & (canvas.masked | revealed)
    asked = revealed & ~gone & (canvas.tokens == change.expand)
    grows = asked & (asked.cumsum(0) <= room)
    copies = (~gone).long() + grows.long()
    source = torch.arange(len(copies)).repeat_interleave(copies)
    asked = asked[source]
    revealed = revealed[source] & ~asked
    return Resized(
        Canvas(
            canvas.tokens[source].masked_fill(asked, mask_id),
            canvas.masked[source] | asked,
            canvas.confidence[source].masked_fill(asked, 0),
            canvas.age[source].masked_fill(asked, 0),
        ),
        revealed,
        asked,
        int(grows.sum()),
    )


def _done(core: DecodingCore, canvas: Canvas, change: LengthTokens | None) -> bool:
    """Whether the hole is full, or what stands before its first mask ends it already."""
    if canvas.settled(None if change else core.stop.eom_id):
        return True
    ids = canvas.tokens[: _settled(canvas)].tolist()
    stop = core.stop
    return any(
        token in stop.stops or stop.lines_done(ids[:count]) or stop.reaches_suffix(ids[:count])
        for count, token in enumerate(ids, 1)
    )


def _settled(canvas: Canvas) -> int:
    """How many tokens stand before the first mask."""
    return int((~canvas.masked).long().cumprod(0).sum())


def _step(width: int, canvas: Canvas, revealed: Tensor, asked: Tensor | None = None) -> Step:
    where = revealed.nonzero().squeeze(1)
    return Step(
        ForwardKind.DRAFT,
        width,
        tuple(canvas.tokens.tolist()),
        tuple(where.tolist()),
        tuple(canvas.confidence[where].tolist()),
        () if asked is None else tuple(asked.nonzero().squeeze(1).tolist()),
    )
