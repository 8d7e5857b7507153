"""The joint objective: next tokens of clean text, masked tokens of noisy blocks, in one forward.

As in Nemotron-Labs-Diffusion's training on `[noisy | clean]`: clean tokens are strictly causal; a
noisy block sees itself both ways and the clean tokens of its example that come before the block.
Two departures: only blocks that matter for infilling are noised (those of the hole and a few random
ones), and masked tokens count equally instead of by 1/t, which is steadier in small batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from fim_model.network.noisy_blocks import NoisyBlocks, block_mask
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import FimPrompt
from fim_model.prompt.tokenizer import SpecialTokens
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fim_training.examples.examples import Row

ROWS_AT_ONCE = 256
"""Positions whose logits are computed at a time."""


@dataclass(frozen=True, slots=True)
class ControlIds:
    """Ids with a role, which are not code.

    pad fills rows up, mask is to be decoded, eom ends a middle. markers are never predicted: where
    a prompt's marker stands depends on our choice of window, which no model can predict.
    """

    pad: int
    mask: int
    eom: int
    markers: tuple[int, ...]

    @classmethod
    def own(cls, special: SpecialTokens) -> ControlIds:
        """The ids of this project's own tokenizer."""
        others = {special.pad, special.mask, special.eom}
        markers = tuple(sorted({*astuple(special)} - others))
        return cls(special.pad, special.mask, special.eom, markers)

    @classmethod
    def of(cls, fim: FimPrompt, mask: int) -> ControlIds:
        """The ids of any layout. In a family without a pad token, the blank id serves as one."""
        if fim.tokenizer.has_roles:
            return cls.own(fim.tokenizer.special)
        named = fim.ids.items()
        markers = {id_ for name, id_ in named if name not in fim.layout.stops and id_ != fim.eom}
        return cls(fim.blank, mask, fim.eom, tuple(sorted(markers)))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of clean text and their noisy blocks: `[B, T]` tensors.

    T = clean length + noisy blocks * block size.

    tokens, positions, target: int64; target is the id to predict. ar_weight, diffusion_weight:
    float32, 0 where nothing is predicted. clean: the clean length. noisy_limit: int64 `[B, N]`, a
    noisy position sees the clean tokens at positions below its limit.
    """

    tokens: Tensor
    positions: Tensor
    target: Tensor
    ar_weight: Tensor
    diffusion_weight: Tensor
    noisy_limit: Tensor
    clean: int
    block_size: int

    def attention(self, *, fused: bool = False) -> NoisyBlocks:
        """Noisy positions see the clean text before their block, and their own block.

        fused: as block masks of FlexAttention, for a compiled model on a GPU.
        """
        if fused:
            blocks = block_mask(self.noisy_limit, self.clean, self.block_size)
            return NoisyBlocks(self.clean, blocks)
        rows, noisy = self.noisy_limit.shape
        device = self.noisy_limit.device
        clean_keys = torch.arange(self.clean, device=device) < self.noisy_limit[:, :, None]
        block = torch.arange(noisy, device=device) // self.block_size
        own_block = (block[:, None] == block).expand(rows, noisy, noisy)
        return NoisyBlocks(self.clean, torch.cat((clean_keys, own_block), dim=2)[:, None])

    def split(self, rows: int) -> list[Batch]:
        """The batch in parts of at most `rows` rows, in order."""
        tensors = {
            field.name: value.split(rows)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        count = -(-len(self.tokens) // rows)
        return [replace(self, **{n: v[i] for n, v in tensors.items()}) for i in range(count)]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; the copy to a GPU is asynchronous."""
        if device.type == "cpu":
            return self
        tensors: dict[str, Any] = {
            field.name: value.pin_memory().to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    """Masking of blocks. `drafts` is the share in which all but the seed is masked (TiDAR).

    `elsewhere` is the share of blocks that lie outside the hole. `middle_weight` multiplies the AR
    loss of the hole's tokens and its end.
    """

    block_size: int
    blocks: int
    drafts: float = 0.5
    elsewhere: float = 0.25
    middle_weight: float = 5.0


def build_batch(
    rows: Sequence[Row],
    length: int,
    control: ControlIds,
    noise: NoiseSettings,
    rng: Random,
) -> Batch:
    """A batch of rows (at most `length` tokens each) and noisy copies of their blocks."""
    noisy = noise.blocks * noise.block_size
    total = length + noisy
    batch = Batch(
        tokens=torch.full((len(rows), total), control.pad),
        positions=torch.arange(total).repeat(len(rows), 1),
        target=torch.zeros(len(rows), total, dtype=torch.int64),
        ar_weight=torch.zeros(len(rows), total),
        diffusion_weight=torch.zeros(len(rows), total),
        noisy_limit=torch.zeros(len(rows), noisy, dtype=torch.int64),
        clean=length,
        block_size=noise.block_size,
    )
    for place, row in enumerate(rows):
        _fill_clean(batch, place, row, control, noise)
        for block, span in enumerate(_choose_blocks(row, noise, rng)):
            _fill_noisy(batch, place, row, block, span, control, noise, rng)
    return batch


def _fill_clean(
    batch: Batch, place: int, row: Row, control: ControlIds, noise: NoiseSettings
) -> None:
    tokens = torch.tensor(row.tokens)
    size = len(tokens)
    batch.tokens[place, :size] = tokens
    batch.target[place, : size - 1] = tokens[1:]
    weight = torch.ones(size - 1)
    for middle in row.middles:
        weight[max(middle.start - 1, 0) : middle.stop - 1] = noise.middle_weight
    weight[_is_marker(tokens[1:], control)] = 0
    batch.ar_weight[place, : size - 1] = weight


def _fill_noisy(
    batch: Batch,
    place: int,
    row: Row,
    block: int,
    span: range,
    control: ControlIds,
    noise: NoiseSettings,
    rng: Random,
) -> None:
    size = noise.block_size
    clean = row.tokens[span.start : span.stop]
    ink = len(clean)
    # Past its end a hole's block is all end-of-middle: a decoder may draft beyond the end.
    clean = clean + [control.eom] * (size - ink)
    masked = _draw_mask(size, noise, rng)
    noisy = [control.mask if hide else token for token, hide in zip(clean, masked, strict=True)]
    here = slice(batch.clean + block * size, batch.clean + (block + 1) * size)
    batch.tokens[place, here] = torch.tensor(noisy)
    batch.positions[place, here] = torch.arange(span.start, span.start + size)
    batch.noisy_limit[place, block * size : (block + 1) * size] = span.start
    batch.target[place, here] = torch.tensor(clean)
    weight = torch.tensor(masked, dtype=torch.float32)
    weight[ink:] *= 0.25
    weight[_is_marker(torch.tensor(clean), control)] = 0
    batch.diffusion_weight[place, here] = weight


def _is_marker(tokens: Tensor, control: ControlIds) -> Tensor:
    """Where a prompt's marker stands: our choice of window, which no model can predict."""
    return torch.isin(tokens, torch.tensor(control.markers))


def _choose_blocks(row: Row, noise: NoiseSettings, rng: Random) -> list[range]:
    """The clean tokens of each block to noise: the holes over and over, and some elsewhere.

    Decoding opens a block at a hole's start, a whole number of blocks after it, or, after a draft
    was accepted, anywhere in the hole: all of them are trained, each with fresh noise. A block ends
    where its hole does.
    """
    size, last = noise.block_size, len(row.tokens) - noise.block_size
    chosen: list[range] = []
    while len(chosen) < noise.blocks:
        elsewhere = rng.random() < noise.elsewhere
        if not row.middles or (elsewhere and last > 0):
            if last <= 0:
                break
            first = rng.randint(1, last)
            chosen.append(range(first, first + size))
            continue
        hole = rng.choice(row.middles)
        from_start = rng.random() < 0.6
        firsts = hole[::size] if from_start else [rng.choice(hole)]
        chosen += [range(first, min(first + size, hole.stop)) for first in firsts]
    return chosen[: noise.blocks]


def _draw_mask(size: int, noise: NoiseSettings, rng: Random) -> list[bool]:
    """Which positions of a block are masked; later ones more often, as while decoding."""
    if rng.random() < noise.drafts:
        return [False] + [True] * (size - 1)
    ratio = rng.random()
    masked = [rng.random() < ratio * (0.7 + 0.6 * i / size) for i in range(size)]
    if not any(masked):
        masked[rng.randrange(size)] = True
    return masked


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean cross entropy in nats per weighted token."""

    ar: Tensor
    diffusion: Tensor


def joint_losses(model: TriModeTransformer, batch: Batch, *, fused: bool = False) -> Losses:
    """One forward; the vocabulary is applied only to rows that carry a target.

    Logits are computed for `ROWS_AT_ONCE` rows at a time, which bounds memory; rows are padded to a
    multiple of that, since buffers of ever new sizes fragment the allocator's memory.
    """
    hidden = model(batch.tokens, batch.positions, batch.attention(fused=fused)).flatten(0, 1)
    ar, diffusion = batch.ar_weight.flatten(), batch.diffusion_weight.flatten()
    rows = _padded((ar + diffusion).nonzero().squeeze(1))
    weights = torch.stack((_shares(ar), _shares(diffusion)))[:, rows]
    # Padding repeats the first position, with weight 0.
    weights[:, int(((ar + diffusion) > 0).sum()) :] = 0
    found = torch.zeros(2, device=hidden.device)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        nats = checkpoint(
            _nats, model, hidden.index_select(0, rows[some]), batch.target.flatten()[rows[some]],
            use_reentrant=False,
        )  # fmt: skip
        found = found + weights[:, some] @ nats
    return Losses(found[0], found[1])


def _nats(model: TriModeTransformer, hidden: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(model.logits(hidden).float(), target, reduction="none")


def _shares(weight: Tensor) -> Tensor:
    return weight / weight.sum().clamp_min(1)


def _padded(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, -len(rows) % ROWS_AT_ONCE))
