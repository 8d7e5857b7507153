"""The forward of `TriModeTransformer` for a CPU: fewer, larger operations.

A narrow forward of a small model spends as much time in starting operations as in its products. So
query, key and value are one product and so are gate and up; queries and keys are rotated together,
by tables computed once; residuals are added by the products that follow; masks are made once a
forward, not once a layer; and query heads that share keys become rows of one matrix, so that no key
is ever copied. Weights lie in oneDNN's blocks (`fim_kernels.matmul_packed`), quick at every width.
Keys and values in the cache are those of the plain forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from fim_kernels.attention import attend
from fim_kernels.matmul_packed import matmul_packed, pack
from fim_kernels.token_scores import score_tokens
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part, among_new
from fim_model.network.config import ModelConfig
from fim_model.network.fused_forward import FusedLayer, FusedTransformer, Weight, project
from fim_model.network.fused_network import FusedNetwork
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import RotaryEmbedding

LARGEST_MASK = 2**22
"""Values of a mask over stacked heads; a wider causal forward copies keys instead."""

LARGEST_COPY = 64 * 2**20
"""Bytes of an embedding that a tied head may take a second time, to be packed as well."""


class PackedTransformer(FusedNetwork):
    """A `Network` over a model's rearranged weights."""

    def __init__(self, weights: FusedTransformer, draft_lora: DraftLora | None = None) -> None:
        super().__init__(weights, draft_lora)
        _pack(weights)
        self._angles = Angles(weights.config, weights.rotary, weights.head.dtype)
        whole = isinstance(weights.layers[0].qkv, Tensor)
        self._product_dtype = weights.head.dtype if whole else torch.bfloat16

    @torch.inference_mode()
    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`: products over the tokens of all parts, attention for each part alone."""
        config, weights = self.config, self._weights
        count, groups = config.num_attention_heads, config.num_key_value_heads
        readers = [PartAttention(part, count // groups) for part in parts]
        widths = [part.width for part in parts]
        cos, sin, query_scale = self._angles(joined([part.positions[0] for part in parts]))
        x = F.embedding(joined([part.tokens[0] for part in parts]), weights.embedding)
        for i, layer in enumerate(weights.layers):
            normed = self._norm(x, layer.input_norm).to(self._product_dtype)
            heads = project(normed, layer.qkv, layer.qkv_bias).view(len(x), -1, config.head_dim)
            turned, value = heads.split((count + groups, groups), 1)
            query, key = rotate(turned, cos, sin).split((count, groups), 1)
            if query_scale is not None:
                query = query * query_scale
            if len(readers) == 1:
                mixed = readers[0](i, query, key, value)
            else:
                each = zip(*(x.split(widths) for x in (query, key, value)), strict=True)
                mixed = torch.cat([r(i, *qkv) for r, qkv in zip(readers, each, strict=True)])
            after = add_product(x, mixed, layer.output, layer.output_bias)
            x = after if lora is None else after + lora.update(i, mixed)
            x = self._feed_forward(x, layer)
        return list(self._norm(x, weights.norm)[None].split(widths, dim=1))

    @property
    def device_drafting(self) -> None:
        """None: on a CPU a step has no device to wait for."""

    def scores(self, hidden: Tensor) -> TokenScores:
        return score_tokens(self.logits(hidden))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.rms_norm_eps)

    def _feed_forward(self, x: Tensor, layer: FusedLayer) -> Tensor:
        normed = self._norm(x, layer.post_norm).to(self._product_dtype)
        gate, up = project(normed, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
        return add_product(x, F.silu(gate).mul_(up), layer.down, layer.down_bias)


class PartAttention:
    """Attention of one part over its cache; the heads that share a key are rows of one matrix.

    The slots in the cache and the mask, a float one for SDPA, are made once for all layers.
    """

    def __init__(self, part: Part, share: int) -> None:
        """share: query heads a key head. Raises ValueError if the cache is too small."""
        width, span, attention = part.width, part.span, part.attention
        self._slots = part.cache.slots(width)
        causal = attention is Attention.CAUSAL and width > 1
        # Reading from the start needs no mask; a long mask costs more than copying keys.
        self._plainly = causal and (width == span or width * span * share > LARGEST_MASK)
        self._mask: Tensor | None = None
        if isinstance(attention, Tensor) or (causal and not self._plainly):
            hidden = torch.zeros(width, width, dtype=self._slots.keys[0].dtype)
            hidden.masked_fill_(~among_new(part, hidden.device), -torch.inf)
            self._mask = F.pad(hidden, (span - width, 0)).repeat(share, 1)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: `[T, H, D]`; key, value: `[T, G, D]`, kept in the cache. Returns `[T, H * D]`."""
        slots = self._slots
        slots.new_keys[layer][0].copy_(key.transpose(0, 1))
        slots.new_values[layer][0].copy_(value.transpose(0, 1))
        keys, values = slots.keys[layer], slots.values[layer]
        width, heads, dim = query.shape
        query = query.transpose(0, 1)
        if self._plainly:
            found = attend(query[None], keys, values, causal=True)
        else:
            rows = query.reshape(1, keys.shape[1], -1, dim)
            found = F.scaled_dot_product_attention(rows, keys, values, attn_mask=self._mask)
        return found.view(heads, width, dim).transpose(0, 1).reshape(width, heads * dim)


class Angles:
    """Rotation tables by position, computed once and extended for positions beyond them."""

    def __init__(self, config: ModelConfig, rotary: RotaryEmbedding, dtype: torch.dtype) -> None:
        self._rotary, self._dtype, self._half = rotary, dtype, config.head_dim // 2
        self._lengthen(1024)

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """positions: int64 `[T]`. cos, signed sin and query scale (or None), each `[T, 1, …]`."""
        last = int(positions.max())
        if last >= len(self._cos):
            self._lengthen(2 * last)
        scale = self._scale
        return (
            self._cos.index_select(0, positions),
            self._sin.index_select(0, positions),
            None if scale is None else scale.index_select(0, positions),
        )

    def _lengthen(self, count: int) -> None:
        where = self._rotary(torch.arange(count)[None], self._dtype)
        sign = torch.ones(2 * self._half, dtype=self._dtype)
        sign[: self._half] = -1
        self._cos, self._sin = where.cos[0][:, None], (where.sin[0] * sign)[:, None]
        self._scale = None if where.query_scale is None else where.query_scale.view(-1, 1, 1)


def _pack(weights: FusedTransformer) -> None:
    """Pack the weights one by one, so that they are in memory only once.

    An embedding that is the head as well is looked up by rows, which packed weights do not have:
    it is there twice if it is small. A larger one lies in columns, which a narrow product reads
    quicker than rows.
    """
    for number, layer in enumerate(weights.layers):
        weights.layers[number] = replace(
            layer,
            qkv=_packed(layer.qkv),
            output=_packed(layer.output),
            gate_up=_packed(layer.gate_up),
            down=_packed(layer.down),
        )
    tied = weights.embedding.data_ptr() == weights.head.data_ptr()
    if tied and weights.head.nbytes > LARGEST_COPY:
        weights.embedding = weights.head = weights.head.t().contiguous().t()
    else:
        weights.head = pack(weights.head)


def _packed(weight: Weight) -> Weight:
    return pack(weight) if isinstance(weight, Tensor) else weight


def joined(rows: list[Tensor]) -> Tensor:
    """The concatenation; a single tensor as it is."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """`apply_rotary` in three operations: x `[T, heads, D]`, tables `[T, 1, D]`.

    Turning a head by half its size swaps the pairs; the sign of the first half is in the table.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)


def add_product(x: Tensor, y: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """`x + y @ weight^T (+ bias)` for rows `[T, …]`, in one operation where weights are full."""
    if isinstance(weight, Tensor):
        return matmul_packed(y, weight, bias, x)
    return x + project(y.bfloat16(), weight, bias)
