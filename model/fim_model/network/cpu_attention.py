"""Rotation, cache and attention of a forward on a CPU: what stands between two layers' products.

A row's result does not depend on the rows beside it. For that, attention looks at a round number of
keys, takes no tiny block of queries, and each part of a forward sees its own cache alone.

What layers share is made once a forward: masks, the places in the cache, and the views of the
buffers that all layers use. A narrow forward would otherwise spend more time on views than on sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from fim_model.network.batch_parts import Part, among_new
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import RotaryEmbedding

SPAN = 64
"""Attention looks at a multiple of this many keys, those beyond a row's own masked: the order in
which a product takes its sums depends on how many there are."""

QUERY_BLOCK, MIN_ROWS = 32, 4
"""PyTorch's attention takes queries in multiples of QUERY_BLOCK; a last block of fewer rows than
MIN_ROWS is multiplied by another routine, with sums in another order."""

MOST_ROWS = 768
"""From as many rows on PyTorch's attention takes its largest blocks of queries; the next smaller
ones begin at 192."""


class PartsAttention:
    """Rotation and attention of all parts of a forward, each over its own cache."""

    def __init__(
        self, parts: Sequence[Part], config: ModelConfig, turns: Turns, mixed: Tensor
    ) -> None:
        """mixed: `[T, H * D]`, where each layer's result goes. Raises ValueError if a cache is too
        small."""
        self._queries, self._dim = config.num_attention_heads, config.head_dim
        self._groups = config.num_key_value_heads
        self._widths = [part.width for part in parts]
        starts = list(accumulate(self._widths, initial=0))
        self._rows = [slice(a, b) for a, b in pairwise(starts)]
        self._new = [part.cache.slots(part.width) for part in parts]
        share = self._queries // self._groups
        self._pieces = [
            piece
            for part, start in zip(parts, starts, strict=False)
            for piece in _pieces(part, start, share, mixed)
        ]
        self._turns, self._query_scale = turns(joined([part.positions[0] for part in parts]))
        self._bound: _Heads | None = None

    def __call__(self, layer: int, heads: Tensor) -> None:
        """heads: queries, keys and values, `[T, (H + 2G) * D]`, of which the first two are turned
        in place; keys and values are kept in the caches."""
        if self._bound is None or self._bound.buffer is not heads:
            self._bound = self._bind(heads)
        bound = self._bound
        turn(bound.turned, self._turns)
        if self._query_scale is not None:
            bound.queries.mul_(self._query_scale)
        for new, kept in zip(self._new, bound.kept, strict=True):
            new[layer].copy_(kept)
        for piece, queries in zip(self._pieces, bound.of_pieces, strict=True):
            piece(layer, queries)

    def _bind(self, buffer: Tensor) -> _Heads:
        heads = buffer.view(len(buffer), -1, self._dim)
        queries, groups = heads[:, : self._queries], self._groups
        grouped = queries.unflatten(1, (groups, -1)).transpose(0, 1)
        others = heads[:, self._queries :].unflatten(1, (2, groups)).permute(1, 2, 0, 3)
        return _Heads(
            buffer,
            heads[:, : self._queries + groups],
            queries,
            [others[:, :, rows] for rows in self._rows],
            [grouped[:, piece.rows] for piece in self._pieces],
        )

    def split(self, hidden: Tensor) -> list[Tensor]:
        """Rows `[T, N]` of all parts as `[1, T, N]` of each."""
        return list(hidden[None].split(self._widths, dim=1))


@dataclass(frozen=True, slots=True)
class _Heads:
    """A buffer of heads, `[T, (H + 2G) * D]`, and views of it.

    turned: queries and keys, `[T, H + G, D]`. queries: `[T, H, D]`. kept: keys and values of each
    part, `[2, G, T, D]`. of_pieces: the queries of each piece, `[G, T, H / G, D]`.
    """

    buffer: Tensor
    turned: Tensor
    queries: Tensor
    kept: list[Tensor]
    of_pieces: list[Tensor]


@dataclass(frozen=True, slots=True)
class AttentionPiece:
    """Some rows of a forward, over as many keys as they need.

    rows: which of the forward's. keys, values: `[1, G, span, D]` of each layer. mask: float
    `[rows, span]`, heads that share a key one after the other, and rows of zeros up to what
    `missing_rows` asks for. gathered: `[1, G, rows, D]`, as PyTorch's attention takes queries, and
    `room`, the part of it that is filled, `[G, T, H / G, D]`. mixed: where the result goes, the
    same shape.
    """

    rows: slice
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    mask: Tensor
    gathered: Tensor
    room: Tensor
    mixed: Tensor

    def __call__(self, layer: int, queries: Tensor) -> None:
        self.room.copy_(queries)
        found = F.scaled_dot_product_attention(
            self.gathered, self.keys[layer], self.values[layer], attn_mask=self.mask
        )
        _, width, share, _ = self.room.shape
        self.mixed.copy_(found[0, :, : width * share].unflatten(1, (width, share)))


def _pieces(part: Part, start: int, share: int, mixed: Tensor) -> list[AttentionPiece]:
    """A part's rows, which begin at row `start` of the forward, in pieces that need equally many
    keys. share: query heads a key head."""
    seen = among_new(part, part.tokens.device)
    in_order = not seen.triu(1).any()
    return [
        _piece(part.cache, rows, rows.stop if in_order else part.width, seen, start, share, mixed)
        for rows in _rows_by_span(part, in_order=in_order)
    ]


def _piece(
    cache: KVCache, rows: slice, last: int, seen: Tensor, start: int, share: int, mixed: Tensor
) -> AttentionPiece:
    """last: how many of the part's new tokens any of these rows sees. seen: who sees whom among
    all of them, boolean `[T, T]`."""
    before, width = cache.length, rows.stop - rows.start
    widest = before + last
    span = min(-(-widest // SPAN) * SPAN, cache.room)
    keys, values = cache.first(span)
    groups, dim = keys[0].shape[1], keys[0].shape[-1]
    hidden = keys[0].new_zeros(width, span)
    hidden[:, widest:] = -torch.inf
    hidden[:, before:widest].masked_fill_(~seen[rows, : widest - before], -torch.inf)
    mask = hidden.repeat_interleave(share, 0)
    mask = F.pad(mask, (0, 0, 0, missing_rows(len(mask))))
    gathered = keys[0].new_zeros(1, groups, len(mask), dim)
    room = gathered[0, :, : width * share].unflatten(1, (width, share))
    own = slice(start + rows.start, start + rows.stop)
    where = mixed[own].view(width, groups, share, dim).transpose(0, 1)
    return AttentionPiece(own, keys, values, mask, gathered, room, where)


def _rows_by_span(part: Part, *, in_order: bool) -> list[slice]:
    """in_order: whether no token sees a later one; otherwise all rows need the same keys."""
    if not in_order:
        return [slice(0, part.width)]
    first = part.cache.length
    borders = range((first // SPAN + 1) * SPAN - first, part.width, SPAN)
    return [slice(a, b) for a, b in pairwise([0, *borders, part.width])]


def missing_rows(count: int) -> int:
    """Rows to add to `count`, so that the last block of queries is not a tiny one."""
    last = count % QUERY_BLOCK
    return MIN_ROWS - last if 0 < last < MIN_ROWS else 0


class Turns:
    """The rotation of each position as complex numbers, computed once and lengthened as needed."""

    def __init__(self, config: ModelConfig, rotary: RotaryEmbedding) -> None:
        self._rotary, self._half = rotary, config.head_dim // 2
        self._lengthen(1024)

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor | None]:
        """positions: int64 `[T]`. Turns, complex64 `[T, 1, D / 2]`, and the scale of queries, or
        None, float32 `[T, 1, 1]`."""
        last = int(positions.max())
        if last >= len(self._turns):
            self._lengthen(2 * last)
        scale = self._scale
        return (
            self._turns.index_select(0, positions),
            None if scale is None else scale.index_select(0, positions),
        )

    def _lengthen(self, count: int) -> None:
        where = self._rotary(torch.arange(count)[None], torch.float32)
        cos, sin = (table[0, :, None, : self._half] for table in (where.cos, where.sin))
        self._turns = torch.complex(cos, sin)
        self._scale = None if where.query_scale is None else where.query_scale.view(-1, 1, 1)


def turn(heads: Tensor, turns: Tensor) -> None:
    """`apply_rotary` in place: heads `[T, heads, D]`, pairs side by side."""
    pairs = heads.unflatten(-1, (-1, 2))
    if heads.dtype is torch.float32:
        torch.view_as_complex(pairs).mul_(turns)
    else:
        turned = torch.view_as_complex(pairs.float()).mul_(turns)
        pairs.copy_(torch.view_as_real(turned))


def joined(rows: list[Tensor]) -> Tensor:
    """The concatenation; a single tensor as it is."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)


@cache
def key_dtype(groups: int, share: int, dim: int) -> torch.dtype:
    """bfloat16 for keys and values where this processor multiplies it, else float32.

    groups: of key heads; share: query heads of each; dim: of a head. Half the bytes are half the
    time of a narrow forward's attention. Only where PyTorch's attention gives a row the same bits
    alone and among others, which depends on the processor and on the shape.
    """
    multiplies = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    independent = multiplies and _rows_are_independent(groups, share, dim)
    return torch.bfloat16 if independent else torch.float32


def _rows_are_independent(groups: int, share: int, dim: int) -> bool:
    """Whether bfloat16 queries find the same in forwards of several widths, as far as these take
    blocks of different sizes."""
    draw = torch.Generator().manual_seed(0)
    keys, values, queries = (
        torch.randn(1, groups, count, dim, generator=draw).to(torch.bfloat16)
        for count in (2 * SPAN, 2 * SPAN, MOST_ROWS + share * SPAN)
    )
    together = _attention(queries, keys, values)
    for tokens in (1, 2, 5, 16, 33, SPAN):
        count = tokens * share
        some = slice(SPAN, SPAN + count + missing_rows(count))
        if not torch.equal(_attention(queries[:, :, some], keys, values), together[:, :, some]):
            return False
    return True


def _attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """With a mask, as pieces have it."""
    mask = queries.new_zeros(queries.shape[2], keys.shape[2])
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
