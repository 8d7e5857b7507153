"""The forward of `TriModeTransformer` for a CPU: fewer, larger operations.

A narrow forward of a small model spends as much time in starting operations as in its products. So
query, key and value are one product and so are gate and up; queries and keys are rotated together,
in place, by one complex multiplication; masks and the cache's slots are made once a forward, not
once a layer; and query heads that share keys become rows of one matrix, so that no key is ever
copied. Weights lie in oneDNN's blocks, quick at every width: full ones
(`fim_kernels.matmul_packed`), or bytes that are multiplied as integers (`fim_kernels.matmul_int8`).

A row's result is the same to the last bit however many rows stand beside it, and whether its cache
was filled in one forward or in several (tested). So a draft that is verified in a block is what one
token at a time gives.

Keys in the cache are those of the plain forward with each head's pairs side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from fim_kernels.matmul_8bit import quantise
from fim_kernels.matmul_int8 import (
    IntegerWeight,
    available,
    matmul_int8_fine,
    pack_int8,
    rms_norm_matmul_int8,
)
from fim_kernels.matmul_packed import matmul_packed, pack
from fim_kernels.token_scores import score_tokens
from fim_kernels.types import TokenScores, Weight8Bit
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.batch_parts import Part, among_new, shared_adapter
from fim_model.network.config import ModelConfig
from fim_model.network.fused_forward import FusedLayer, FusedTransformer, Weight, project
from fim_model.network.fused_network import FusedNetwork
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import RotaryEmbedding

LARGEST_COPY = 64 * 2**20
"""Bytes of an embedding that a tied head may take a second time, to be packed as well."""


class PackedTransformer(FusedNetwork):
    """A `Network` over a model's rearranged weights."""

    def __init__(self, weights: FusedTransformer, draft_lora: DraftLora | None = None) -> None:
        super().__init__(weights, draft_lora)
        _pack(weights)
        self._turns = Turns(weights.config, weights.rotary)

    @staticmethod
    def prepared(layer: FusedLayer, config: ModelConfig) -> FusedLayer:
        """A layer of 8-bit weights as it is kept until the network is made, in place of `layer`."""
        return packed_layer(layer, config)

    @torch.inference_mode()
    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`: products over the tokens of all parts, attention for each part alone."""
        weights, adapter = self._weights, shared_adapter(parts)
        attend = PartsAttention(parts, self.config, self._turns)
        x = self._embed(joined([part.tokens[0] for part in parts]))
        for i, layer in enumerate(weights.layers):
            heads = self._read(x, layer.input_norm, layer.qkv, layer.qkv_bias)
            if adapter is not None:
                heads.add_(adapter.heads[i](self._norm(x, layer.input_norm)))
            mixed = attend(i, heads)
            after = add_product(x, mixed, layer.output, layer.output_bias)
            if adapter is not None:
                after.add_(adapter.output[i](mixed))
            x = after if lora is None else after + lora.update(i, mixed)
            x = self._feed_forward(x, layer)
        return attend.split(self._norm(x, weights.norm))

    def placed(self, adapter: Adapter) -> Adapter:
        """See `Network`."""
        return adapter.placed(self.dtype, self.device, pairs_side_by_side(self.config))

    @property
    def device_drafting(self) -> None:
        """None: on a CPU a step has no device to wait for."""

    def scores(self, hidden: Tensor) -> TokenScores:
        return score_tokens(self.logits(hidden))

    def logits(self, hidden: Tensor) -> Tensor:
        head = self._weights.head
        if not isinstance(head, IntegerWeight):
            return super().logits(hidden)
        rows = matmul_int8_fine(hidden.flatten(0, -2), head)
        logits: Tensor = rows.unflatten(0, hidden.shape[:-1])
        return logits

    def _embed(self, tokens: Tensor) -> Tensor:
        """`[T]` to `[T, hidden]`."""
        table = self._weights.embedding
        if isinstance(table, Tensor):
            return F.embedding(tokens, table)
        rows = F.embedding(tokens, table.values).float()
        return rows.mul_(table.scale.index_select(0, tokens)[:, None])

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.rms_norm_eps)

    def _read(self, x: Tensor, norm: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
        """The product of normalised rows."""
        if isinstance(weight, IntegerWeight):
            product = rms_norm_matmul_int8(x, norm, weight, self.config.rms_norm_eps)
            return product if bias is None else product.add_(bias)
        return project(self._norm(x, norm), weight, bias)

    def _feed_forward(self, x: Tensor, layer: FusedLayer) -> Tensor:
        gate_up = self._read(x, layer.post_norm, layer.gate_up, layer.gate_up_bias)
        gate, up = gate_up.chunk(2, dim=-1)
        inner = F.silu(gate, inplace=True).mul_(up)
        return add_product(x, inner, layer.down, layer.down_bias)


SPAN = 256
"""Attention looks at a multiple of this many keys, those beyond a row's own masked: the order in
which a product takes its sums depends on how many there are."""

QUERY_BLOCK, MIN_ROWS = 32, 4
"""PyTorch's attention takes queries in multiples of QUERY_BLOCK; a last block of fewer rows than
MIN_ROWS is multiplied by another routine, with sums in another order."""


class PartsAttention:
    """Rotation and attention of all parts of a forward; what layers share is made once."""

    def __init__(self, parts: Sequence[Part], config: ModelConfig, turns: Turns) -> None:
        """Raises ValueError if a cache is too small."""
        self._queries, self._dim = config.num_attention_heads, config.head_dim
        self._turned = self._queries + config.num_key_value_heads
        share = self._queries // config.num_key_value_heads
        self._readers = [PartAttention(part, share) for part in parts]
        self._widths = [part.width for part in parts]
        self._turns, self._query_scale = turns(joined([part.positions[0] for part in parts]))

    def __call__(self, layer: int, heads: Tensor) -> Tensor:
        """heads: queries, keys and values, `[T, (H + 2G) * D]`, of which the first two are turned
        in place. Returns `[T, H * D]`."""
        heads = heads.view(len(heads), -1, self._dim)
        turn(heads[:, : self._turned], self._turns)
        if self._query_scale is not None:
            heads[:, : self._queries].mul_(self._query_scale)
        if len(self._readers) == 1:
            return self._readers[0](layer, heads)
        each = zip(self._readers, heads.split(self._widths), strict=True)
        return torch.cat([read(layer, part) for read, part in each])

    def split(self, hidden: Tensor) -> list[Tensor]:
        """Rows `[T, N]` of all parts as `[1, T, N]` of each."""
        return list(hidden[None].split(self._widths, dim=1))


class PartAttention:
    """Attention of one part over its cache; the heads that share a key are rows of one matrix.

    The slots in the cache and the masks, float ones for SDPA, are made once for all layers.
    """

    def __init__(self, part: Part, share: int) -> None:
        """share: query heads a key head. Raises ValueError if the cache is too small."""
        self._slots = part.cache.slots(part.width)
        seen = among_new(part, part.tokens.device)
        in_order = not seen.triu(1).any()
        self._pieces = [
            AttentionPiece.of(rows, rows.stop if in_order else part.width, seen, part.cache, share)
            for rows in _rows_by_span(part, in_order=in_order)
        ]

    def __call__(self, layer: int, heads: Tensor) -> Tensor:
        """heads: `[T, H + 2G, D]`, turned; keys and values are kept in the cache.

        Returns `[T, H * D]`.
        """
        slots = self._slots
        keys, values, new = slots.keys[layer], slots.values[layer], slots.new[layer]
        groups, dim = new.shape[1], heads.shape[-1]
        queries = heads.shape[1] - 2 * groups
        new.copy_(heads[:, queries:].view(len(heads), 2, groups, dim).permute(1, 2, 0, 3))
        found = [piece(heads[:, :queries], keys, values) for piece in self._pieces]
        return joined(found)


@dataclass(frozen=True, slots=True)
class AttentionPiece:
    """Some rows of a part, over as many keys as they need. mask: float `[rows, span]`, heads that
    share a key one after the other, and rows of zeros up to what `missing_rows` asks for."""

    rows: slice
    span: int
    mask: Tensor

    @classmethod
    def of(cls, rows: slice, last: int, seen: Tensor, cache: KVCache, share: int) -> AttentionPiece:
        """last: how many of the new tokens any of these rows sees. seen: who sees whom among all
        new tokens, boolean `[T, T]`."""
        before = cache.length
        widest = before + last
        span = min(-(-widest // SPAN) * SPAN, cache.room)
        hidden = torch.zeros(rows.stop - rows.start, span, dtype=cache.keys[0].dtype)
        hidden[:, widest:] = -torch.inf
        hidden[:, before:widest].masked_fill_(~seen[rows, : widest - before], -torch.inf)
        hidden = hidden.repeat_interleave(share, 0)
        return cls(rows, span, F.pad(hidden, (0, 0, 0, missing_rows(len(hidden)))))

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """queries: `[T, H, D]` of all rows. Returns `[rows, H * D]` of this piece's."""
        groups, (_, heads, dim) = keys.shape[1], queries.shape
        width = self.rows.stop - self.rows.start
        rows = queries[self.rows].view(width, groups, -1, dim).transpose(0, 1)
        rows = rows.reshape(1, groups, -1, dim)
        count = rows.shape[2]
        if len(self.mask) > count:
            rows = F.pad(rows, (0, 0, 0, len(self.mask) - count))
        rows = rows.to(self.mask.dtype)
        keys, values = keys[:, :, : self.span], values[:, :, : self.span]
        found = F.scaled_dot_product_attention(rows, keys, values, attn_mask=self.mask)
        found = found[0, :, :count].view(groups, width, -1, dim).transpose(0, 1)
        return found.reshape(width, heads * dim)


def _rows_by_span(part: Part, *, in_order: bool) -> list[slice]:
    """The rows of a part in pieces that need equally many keys. in_order: whether no token sees a
    later one; otherwise all need the same."""
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


def _pack(weights: FusedTransformer) -> None:
    """Pack the weights one by one, so that they are in memory only once."""
    for number, layer in enumerate(weights.layers):
        weights.layers[number] = packed_layer(layer, weights.config)
    pack_head(weights, integers=isinstance(weights.layers[0].qkv, IntegerWeight))


def pack_head(weights: FusedTransformer, *, integers: bool) -> None:
    """The head and the embedding, in place.

    An embedding that is the head as well is looked up by rows, which packed weights do not have:
    it is there twice if it is small, or in bytes. A larger one lies in columns, which a narrow
    product reads quicker than rows.
    """
    if isinstance(weights.head, Weight8Bit):
        weights.head = _packed(weights.head)
        return
    assert isinstance(weights.head, Tensor)
    assert isinstance(weights.embedding, Tensor)
    tied = weights.embedding.data_ptr() == weights.head.data_ptr()
    if integers:
        head = quantise(weights.head)
        weights.head = pack_int8(head)
        weights.embedding = head if tied else quantise(weights.embedding)
    elif tied and weights.head.nbytes > LARGEST_COPY:
        weights.embedding = weights.head = weights.head.t().contiguous().t()
    else:
        weights.head = pack(weights.head)


def packed_layer(layer: FusedLayer, config: ModelConfig) -> FusedLayer:
    """A layer in the layouts that are multiplied; one that is in them already, as it is."""
    if isinstance(layer.qkv, IntegerWeight):
        return layer
    order = pairs_side_by_side(config)
    return replace(
        layer,
        qkv=_packed(reordered(layer.qkv, order)),
        qkv_bias=None if layer.qkv_bias is None else layer.qkv_bias[order],
        output=_packed(layer.output),
        gate_up=_packed(layer.gate_up),
        down=_packed(layer.down),
    )


def pairs_side_by_side(config: ModelConfig) -> Tensor:
    """Where each output of query, key and value comes from, int64 `[(H + 2G) * D]`.

    A rotation turns dimension i together with i + D / 2; side by side they are complex numbers.
    """
    others, dim = config.num_key_value_heads, config.head_dim
    turned = config.num_attention_heads + others
    within = torch.arange(dim).view(2, -1).t().reshape(-1)
    order = torch.arange((turned + others) * dim).view(-1, dim)
    order[:turned] = order[:turned, within]
    return order.view(-1)


def reordered(weight: Weight, order: Tensor) -> Weight:
    if isinstance(weight, Tensor):
        return weight[order]
    assert isinstance(weight, Weight8Bit)
    narrow = weight.scale_bf16
    return Weight8Bit(
        weight.values[order], weight.scale[order], None if narrow is None else narrow[order]
    )


def _packed(weight: Weight) -> Weight:
    if isinstance(weight, Tensor):
        return pack(weight)
    return pack_int8(weight) if isinstance(weight, Weight8Bit) and available() else weight


def joined(rows: list[Tensor]) -> Tensor:
    """The concatenation; a single tensor as it is."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def turn(heads: Tensor, turns: Tensor) -> None:
    """`apply_rotary` in place: heads `[T, heads, D]`, pairs side by side."""
    pairs = heads.unflatten(-1, (-1, 2))
    if heads.dtype is torch.float32:
        torch.view_as_complex(pairs).mul_(turns)
    else:
        turned = torch.view_as_complex(pairs.float()).mul_(turns)
        pairs.copy_(torch.view_as_real(turned))


def add_product(x: Tensor, y: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """`x + y @ weight^T (+ bias)` for rows `[T, ...]`."""
    if isinstance(weight, Tensor):
        return matmul_packed(y, weight, bias, x)
    return project(y, weight, bias).add_(x)
