"""The forward of `TriModeTransformer` for a GPU: fused operations, the length on the device.

Same weights and results as `transformer.py`, arranged so that a narrow forward is bound only by
reading its weights: query, key and value are one product and so are gate and up; rotation writes
into the cache; residuals are added inside the norms; weights may be 8-bit; and no launch needs a
number from the device, so that a CUDA graph can hold the whole step. Without CUDA it runs on the
reference operations: slower than `transformer.py`, for tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fim_kernels.attention import attend
from fim_kernels.lm_head import score_head
from fim_kernels.matmul_8bit import matmul_8bit, quantise
from fim_kernels.matmul_int8 import IntegerWeight, matmul_int8
from fim_kernels.matmul_packed import matmul_packed
from fim_kernels.rms_norm import add_rms_norm, rms_norm
from fim_kernels.rotary import rotate_into_cache
from fim_kernels.swiglu import swiglu
from fim_kernels.types import FullScores, Weight8Bit
from torch import Tensor, nn

from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import Layer, RotaryEmbedding, TriModeTransformer

Weight = Tensor | Weight8Bit | IntegerWeight

NARROW = 128
"""Positions up to which an 8-bit product is bound by memory; wider ones go through cuBLAS."""


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """qkv: `[(H + 2G) * D, hidden]`; gate_up: `[2 * inner, hidden]`; the rest as in `Layer`."""

    input_norm: Tensor
    qkv: Weight
    output: Weight
    post_norm: Tensor
    gate_up: Weight
    down: Weight
    qkv_bias: Tensor | None = None
    output_bias: Tensor | None = None
    gate_up_bias: Tensor | None = None
    down_bias: Tensor | None = None


class DeviceCache:
    """The buffers of a `KVCache` with a length, int32 `[B]`, that lives on the device.

    As there, what a forward writes after `length` is scratch until `length` is raised, here in
    place and on the device. The capacity is not checked: the caller, which knows an upper bound of
    the length, does that. The `KVCache` keeps its own length, which is not updated.
    """

    def __init__(self, buffers: KVCache) -> None:
        self.capacity, self.keys, self.values = buffers.capacity, buffers.keys, buffers.values
        batch, device = self.keys[0].shape[0], self.keys[0].device
        self.length = torch.zeros(batch, dtype=torch.int32, device=device)


class FusedTransformer:
    """A `TriModeTransformer` with its weights rearranged; see the module."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Tensor | Weight8Bit,
        layers: list[FusedLayer],
        norm: Tensor,
        head: Weight,
        rotary: RotaryEmbedding,
    ) -> None:
        self.config, self.embedding, self.layers = config, embedding, layers
        self.norm, self.head, self.rotary = norm, head, rotary

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: TriModeTransformer, *, storage: torch.dtype | None = None, consume: bool = False
    ) -> FusedTransformer:
        """`storage`: int8 or float8_e4m3fn for the layers' weights; None keeps their dtype.

        `consume` empties the model's layers on the way, for models that fit the device only once.
        """
        backbone = model.model
        layers = []
        for layer in backbone.layers:
            layers.append(_fuse(layer, storage))
            if consume:
                layer.to("meta")
        return cls(
            model.config,
            backbone.embed_tokens.weight.detach(),
            layers,
            backbone.norm.weight.detach(),
            model.lm_head.weight.detach(),
            backbone.rotary,
        )

    @torch.no_grad()
    def forward(
        self,
        tokens: Tensor,
        attention: Attention | Tensor,
        cache: DeviceCache,
        *,
        positions: Tensor | None = None,
        visible: int | None = None,
        lora: DraftLora | None = None,
        adapter: Adapter | None = None,
    ) -> Tensor:
        """One pass over T tokens placed after what the cache keeps; the cache is not advanced.

        tokens: int64 `[B, T]`. attention: a bool tensor `[T, T]` says who sees whom among them.
        positions: int64 `[B, T]`, None for consecutive ones. `visible`: an upper bound of
        `length + T`, up to which the cache buffers are looked at (default: all). Returns normalised
        hidden states `[B, T, hidden]`.
        """
        config = self.config
        width = tokens.shape[1]
        if positions is None:
            positions = cache.length[:, None] + torch.arange(width, device=tokens.device)
        assert isinstance(self.embedding, Tensor)
        x = F.embedding(tokens, self.embedding)
        where = self.rotary(positions, x.dtype)
        span: Tensor | None = cache.length + width
        mask: Tensor | None = None
        if isinstance(attention, Tensor):
            bound = cache.capacity if visible is None else visible
            span, mask = None, over_span(attention, cache.length, bound)
        heads = (config.num_attention_heads, *(2 * (config.num_key_value_heads,)))
        normed = rms_norm(x, self.layers[0].input_norm, config.rms_norm_eps)
        for i, layer in enumerate(self.layers):
            qkv = project(normed, layer.qkv, layer.qkv_bias)
            if adapter is not None:
                qkv = qkv + adapter.heads[i](normed)
            qkv = qkv.unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
            query, key, value = qkv.split(heads, dim=1)
            keys, values = cache.keys[i][:, :, :visible], cache.values[i][:, :, :visible]
            query = rotate_into_cache(
                query, key, value, where.cos, where.sin, keys, values, cache.length,
                where.query_scale,
            )  # fmt: skip
            causal = attention is Attention.CAUSAL
            seen = attend(query, keys, values, causal=causal, mask=mask, span=span)
            seen = seen.transpose(1, 2).flatten(2)
            written = project(seen, layer.output, layer.output_bias)
            if adapter is not None:
                written = written + adapter.output[i](seen)
            if lora is not None:
                written = written + lora.update(i, seen)
            normed, x = add_rms_norm(written, x, layer.post_norm, config.rms_norm_eps)
            gate, up = project(normed, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            written = project(swiglu(gate, up), layer.down, layer.down_bias)
            following = self.layers[i + 1].input_norm if i + 1 < len(self.layers) else self.norm
            normed, x = add_rms_norm(written, x, following, config.rms_norm_eps)
        return normed

    @torch.no_grad()
    def scores(self, hidden: Tensor, rows: Tensor | None = None) -> FullScores:
        """Scores of rows of hidden states `[N, hidden]`; -1 in `rows` skips a row."""
        assert isinstance(self.head, Tensor)
        return score_head(hidden, self.head, rows)


def over_span(pattern: Tensor, length: Tensor, keys: int) -> Tensor:
    """A pattern among T new tokens, bool `[T, T]`, as the mask `[B, 1, T, keys]` over buffers.

    length: int32 `[B]`, tokens kept before the new ones; all see those, none what is after.
    """
    new = torch.arange(keys, device=pattern.device) - length[:, None]
    width = len(pattern)
    among = pattern[:, new.clamp(0, width - 1)].transpose(0, 1)
    return ((new < 0)[:, None] | (among & (new < width)[:, None]))[:, None]


def project(x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """`x @ weight^T (+ bias)`. Full weights go to cuBLAS, packed ones (on a CPU) to oneDNN, 8-bit
    ones to a kernel of `fim_kernels`."""
    if isinstance(weight, Tensor):
        return matmul_packed(x, weight, bias)
    if isinstance(weight, IntegerWeight):
        product = matmul_int8(x.float(), weight)
    elif x.is_cuda and x.numel() // x.shape[-1] > NARROW:
        return F.linear(x, weight.dequantise(x.dtype), bias)
    else:
        # PyTorch's own product of 8-bit weights on a CPU takes bfloat16 alone.
        product = matmul_8bit(x if x.is_cuda else x.bfloat16(), weight).to(x.dtype)
    return product if bias is None else product + bias


def _fuse(layer: nn.Module, storage: torch.dtype | None) -> FusedLayer:
    def stored(*parts: nn.Linear) -> Weight:
        weight = torch.cat([part.weight for part in parts]) if len(parts) > 1 else parts[0].weight
        return weight.detach() if storage is None else quantise(weight, storage)

    def bias(*parts: nn.Linear) -> Tensor | None:
        if parts[0].bias is None:
            return None
        return torch.cat([part.bias for part in parts]).detach()

    assert isinstance(layer, Layer)
    attention, mlp = layer.self_attn, layer.mlp
    qkv = attention.q_proj, attention.k_proj, attention.v_proj
    return FusedLayer(
        input_norm=layer.input_layernorm.weight.detach(),
        qkv=stored(*qkv),
        output=stored(attention.o_proj),
        post_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=stored(mlp.gate_proj, mlp.up_proj),
        down=stored(mlp.down_proj),
        qkv_bias=bias(*qkv),
        output_bias=bias(attention.o_proj),
        gate_up_bias=bias(mlp.gate_proj, mlp.up_proj),
        down_bias=bias(mlp.down_proj),
    )
