"""Native infilling: a hole inside one bidirectional block, for block diffusion models without FIM.

The prompt is the plain prefix. A hole of L tokens is the block `[MASK x L, suffix head]` after it:
the masks see the prefix through the cache and the beginning of the suffix in their own block, both
within the block size the model was trained for. A longer hole is filled block by block while the
suffix head stays in view, at its true distance.

The length of the hole is unknown. As in CAL (arXiv 2602.00476), `Phi(L)`, the mean top-1
probability over L masks in the first forward, is compared across lengths after division by the
model's average Phi(L); all lengths are probed as rows of one forward.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fim_model.decoding.canvas import Canvas
from fim_model.decoding.commit_rules import CommitRule
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, Steps
from fim_model.decoding.denoise import denoise
from fim_model.errors import CheckpointError
from fim_model.network.attention_mask import Attention

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24)
"""Hole lengths that are probed: 139 positions in one forward with a block of 16."""

NATIVE_LENGTHS = "native_lengths.json"
"""The file of a checkpoint folder with its `LengthCalibration`."""


@dataclass(frozen=True, slots=True)
class LengthCalibration:
    """The model's average Phi(L) by L, measured on text; lengths between are interpolated.

    Empty if it was not measured: Phi is then used uncalibrated.
    """

    mean: Mapping[int, float] = field(default_factory=dict)

    def at(self, length: int) -> float:
        if not self.mean:
            return 1.0
        below = max((known for known in self.mean if known <= length), default=min(self.mean))
        above = min((known for known in self.mean if known >= length), default=max(self.mean))
        share = (length - below) / (above - below) if above > below else 0.0
        return self.mean[below] * (1 - share) + self.mean[above] * share

    @classmethod
    def read(cls, folder: Path) -> LengthCalibration:
        """A checkpoint's calibration, empty if it has none. Raises CheckpointError."""
        path = folder / NATIVE_LENGTHS
        if not path.is_file():
            return cls()
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))["mean"]
            mean = {int(length): float(phi) for length, phi in raw.items()}
            if not all(length > 0 and 0 < phi <= 1 for length, phi in mean.items()):
                raise ValueError("a length is below 1, or a confidence is not within 0 and 1")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise CheckpointError(
                f"{path} is no curve of confidences by length ({wrong!r}); delete it to load the "
                "checkpoint without one"
            ) from None
        return cls(mean)

    def write(self, folder: Path) -> None:
        text = json.dumps({"mean": dict(self.mean)}, indent=2)
        (folder / NATIVE_LENGTHS).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class RightContext:
    """The first tokens of the suffix, int64 `[S]`, as they stand at the end of a block."""

    head: Tensor

    @classmethod
    def of(cls, suffix: Sequence[int], block_size: int) -> RightContext:
        """The head of the suffix, a quarter of the block at most."""
        return cls(torch.tensor(suffix[: max(1, block_size // 4)], dtype=torch.int64))

    def room(self, block_size: int) -> int:
        """How many masks fit a block beside the suffix head."""
        return block_size - len(self.head)


@dataclass(frozen=True, slots=True)
class LengthScore:
    """A hole length and its calibrated Phi."""

    length: int
    score: float


def probe_lengths(
    core: DecodingCore,
    right: RightContext,
    lengths: Sequence[int] = LENGTHS,
    calibration: LengthCalibration | None = None,
) -> list[LengthScore]:
    """All lengths probed in one forward, best first."""
    curve = calibration or LengthCalibration()
    room = right.room(core.block_size)
    blocks = [_block(core, right, min(length, room), length) for length in lengths]
    sizes = torch.tensor([len(tokens) for tokens, _ in blocks])
    row = torch.arange(len(blocks)).repeat_interleave(sizes)
    tokens = torch.cat([tokens for tokens, _ in blocks])
    positions = torch.cat([positions for _, positions in blocks])
    hidden = core.forward(tokens, row[:, None] == row, positions + core.cache.length)
    masked = tokens == core.model.config.mask_id
    confidence = core.predictions(hidden[masked]).scores().confidence
    totals = torch.zeros(len(blocks)).index_add(0, row[masked], confidence)
    phi = totals / torch.zeros(len(blocks)).index_add(0, row[masked], torch.ones_like(confidence))
    found = [
        LengthScore(length, value / curve.at(length))
        for length, value in zip(lengths, phi.tolist(), strict=True)
    ]
    return sorted(found, key=lambda found: -found.score)


def native_infill(core: DecodingCore, right: RightContext, length: int, rule: CommitRule) -> Steps:
    """Fill a hole of `length` tokens; to begin with, the cache holds exactly the prefix."""
    left = length
    while core.finish is None:
        size = min(left, right.room(core.block_size))
        tokens, positions = _block(core, right, size, left)
        canvas = Canvas.of(tokens, core.model.config.mask_id)
        for revealed in denoise(core, canvas, rule, positions=positions + core.cache.length):
            yield _step(core, canvas, size, revealed)
        left -= size
        filled = canvas.tokens[:size]
        core.commit(filled.tolist(), canvas.confidence[:size].tolist())
        if core.finish is None and not left:
            core.finish = "filled"
        if core.finish is None:
            before = len(core.tokens)
            core.forward(filled, Attention.CAUSAL)
            core.keep(size)
            yield core.step(ForwardKind.VERIFY, size, before)


def trim_echo_after(
    core: DecodingCore, steps: Iterable[Step], suffix: Sequence[int]
) -> Iterator[Step]:
    """Yield the steps, then cut an end of the hole that repeats the suffix's beginning."""
    yield from steps
    core.tokens = without_echo(core.tokens, suffix) or core.tokens[:1]
    core.confidences = core.confidences[: len(core.tokens)]


def without_echo(hole: Sequence[int], suffix: Sequence[int], shortest: int = 2) -> list[int]:
    """The hole without an end that repeats the suffix's beginning, if at least `shortest` long.

    A hole that is too long tends to be filled with a copy of what follows it.
    """
    for size in range(min(len(hole), len(suffix)), shortest - 1, -1):
        if list(hole[-size:]) == list(suffix[:size]):
            return list(hole[:-size])
    return list(hole)


def _block(core: DecodingCore, right: RightContext, size: int, left: int) -> tuple[Tensor, Tensor]:
    """Tokens `[size masks, suffix head]` and their positions after the cache, int64.

    The suffix head stands at its final distance, after the `left` tokens still to be filled.
    """
    masks = torch.full((size,), core.model.config.mask_id)
    after = torch.arange(left, left + len(right.head))
    return torch.cat((masks, right.head)), torch.cat((torch.arange(size), after))


def _step(core: DecodingCore, canvas: Canvas, size: int, revealed: Tensor) -> Step:
    offset = len(core.tokens)
    where = revealed.nonzero().squeeze(1)
    return Step(
        ForwardKind.DRAFT,
        len(canvas.tokens),
        (*core.tokens, *canvas.tokens[:size].tolist()),
        tuple((where + offset).tolist()),
        tuple(canvas.confidence[where].tolist()),
    )
