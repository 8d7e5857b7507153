"""The forward of `TriModeTransformer` for a CPU: fewer, larger operations.

A narrow forward of a small model spends as much time in starting operations as in its products. So
query, key and value are one product and so are gate and up; queries and keys are rotated together,
in place, by one complex multiplication; masks and the cache's slots are made once a forward, not
once a layer; and query heads that share keys become rows of one matrix, so that no key is ever
copied. Weights lie in oneDNN's blocks, quick at every width: full ones
(`fim_kernels.matmul_packed`), or bytes that are multiplied as integers (`fim_kernels.matmul_int8`);
where the processor has no quick products of integers, bytes lie as they are and rows are bfloat16
(`fim_kernels.matmul_8bit`).

A row's result is the same to the last bit however many rows stand beside it, and whether its cache
was filled in one forward or in several (tested). So a draft that is verified in a block is what one
token at a time gives.

Keys in the cache are those of the plain forward with each head's pairs side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
from fim_model.network.batch_parts import Part, shared_adapter
from fim_model.network.config import ModelConfig
from fim_model.network.cpu_attention import PartsAttention, Turns, joined, key_dtype
from fim_model.network.fused_forward import FusedLayer, FusedTransformer, Weight, project
from fim_model.network.fused_network import FusedNetwork
from fim_model.network.lora import DraftLora

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
        return packed_layer(layer, config) if available() else layer

    @torch.inference_mode()
    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`: products over the tokens of all parts, attention for each part alone."""
        weights, adapter = self._weights, shared_adapter(parts)
        x = self._embed(joined([part.tokens[0] for part in parts]))
        mixed = x.new_empty(len(x), self.config.num_attention_heads * self.config.head_dim)
        attend = PartsAttention(parts, self.config, self._turns, mixed)
        for i, layer in enumerate(weights.layers):
            heads = self._read(x, layer.input_norm, layer.qkv, layer.qkv_bias)
            if adapter is not None:
                heads.add_(adapter.heads[i](self._norm(x, layer.input_norm)))
            attend(i, heads)
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
    def cache_dtype(self) -> torch.dtype:
        """See `Network`."""
        if not isinstance(self._weights.head, IntegerWeight):
            return self.dtype
        groups, heads = self.config.num_key_value_heads, self.config.num_attention_heads
        return key_dtype(groups, heads // groups, self.config.head_dim)

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
        head = weights.head
        # With rows of bfloat16 logits would be bfloat16 too, in which the best tokens are equal.
        weights.head = pack_int8(head) if available() else pack(head.dequantise(torch.float32))
        return
    assert isinstance(weights.head, Tensor)
    assert isinstance(weights.embedding, Tensor)
    tied = weights.embedding.data_ptr() == weights.head.data_ptr()
    if integers and available():
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


def add_product(x: Tensor, y: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """`x + y @ weight^T (+ bias)` for rows `[T, ...]`."""
    if isinstance(weight, Tensor):
        return matmul_packed(y, weight, bias, x)
    return project(y, weight, bias).add_(x)
