"""The tri-mode transformer: one set of weights, read causally or as a bidirectional block.

Llama's architecture with what its descendants add: RMSNorm, grouped-query attention with rotary
positions, biases where a family has them, Llama 4's query scale, SwiGLU. Parameter names are
transformers' own, so that a checkpoint of this model is a `Ministral3ForCausalLM` checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fim_kernels.attention import attend
from fim_kernels.rms_norm import rms_norm
from fim_kernels.rotary import apply_rotary
from fim_kernels.swiglu import swiglu
from fim_kernels.token_scores import score_tokens
from fim_kernels.types import TokenScores
from torch import Tensor, nn

from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention, AttentionPattern
from fim_model.network.batch_parts import PackedCache, Part, packed_pattern, shared_adapter
from fim_model.network.config import ModelConfig
from fim_model.network.contract import Shared
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.noisy_blocks import NoisyBlocks, attend_noisy_blocks

__all__ = ["Attention", "AttentionPattern", "TriModeTransformer"]


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class SelfAttention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.query_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.query_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.query_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)

    def forward(
        self,
        x: Tensor,
        where: Placement,
        attention: AttentionPattern,
        cache: KVCache | None,
        lora: DraftLora | None,
    ) -> Tensor:
        adapter = None if cache is None else cache.adapter
        heads = [projection(x) for projection in (self.q_proj, self.k_proj, self.v_proj)]
        if adapter is not None:
            updates = adapter.heads[self.layer](x).split([rows.shape[-1] for rows in heads], -1)
            heads = [rows + update for rows, update in zip(heads, updates, strict=True)]
        query, key, value = (
            rows.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for rows in heads
        )
        query = apply_rotary(query, where.cos, where.sin)
        if where.query_scale is not None:
            query = query * where.query_scale
        key = apply_rotary(key, where.cos, where.sin)
        if cache is not None:
            key, value = cache.write(self.layer, key, value)
        if isinstance(attention, NoisyBlocks):
            seen = attend_noisy_blocks(query, key, value, attention)
        elif isinstance(attention, Tensor):
            seen = attend(query, key, value, causal=False, mask=over_cache(attention, key))
        else:
            seen = attend(query, key, value, causal=attention is Attention.CAUSAL)
        seen = seen.transpose(1, 2).flatten(2)
        written: Tensor = self.o_proj(seen)
        if adapter is not None:
            written = written + adapter.output[self.layer](seen)
        return written if lora is None else written + lora.update(self.layer, seen)


def over_cache(pattern: Tensor, key: Tensor) -> Tensor:
    """A pattern among new tokens `[(B,) T, T]` as the mask `[B or 1, 1, T, S]` over all S keys."""
    cached = key.shape[2] - pattern.shape[-1]
    pattern = pattern if pattern.ndim == 3 else pattern[None]
    return F.pad(pattern, (cached, 0), value=True)[:, None]


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))
        return down


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        where: Placement,
        attention: AttentionPattern,
        cache: KVCache | None,
        lora: DraftLora | None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), where, attention, cache, lora)
        mixed: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + mixed


class Placement:
    """Rotation and query scale of each position of one forward, shared by all layers."""

    __slots__ = ("cos", "query_scale", "sin")

    def __init__(self, cos: Tensor, sin: Tensor, query_scale: Tensor | None) -> None:
        self.cos, self.sin, self.query_scale = cos, sin, query_scale


class RotaryEmbedding(nn.Module):
    """Positions to angles, from a table computed once in float32."""

    inverse_frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rope = config.rope
        frequencies = config.rope.inverse_frequencies(config.head_dim)
        self.register_buffer("inverse_frequencies", frequencies, persistent=False)
        self.scale = config.rope.attention_factor()

    def forward(self, positions: Tensor, dtype: torch.dtype) -> Placement:
        """positions: int64 `[B, T]`."""
        angles = positions[..., None].float() * self.inverse_frequencies
        angles = torch.cat((angles, angles), dim=-1)
        beta = self.rope.llama_4_scaling_beta
        query_scale = None
        if beta:
            windows = torch.floor(positions / self.rope.original_max_position_embeddings)
            query_scale = (1 + beta * torch.log1p(windows))[:, None, :, None].to(dtype)
        return Placement(
            (angles.cos() * self.scale).to(dtype),
            (angles.sin() * self.scale).to(dtype),
            query_scale,
        )


class Backbone(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Embedding's own random initialisation costs a second of imports on `meta`.
        blank = torch.zeros(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(blank, freeze=False)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config)


class TriModeTransformer(nn.Module):
    """Tokens to hidden states; `logits` applies the vocabulary to the rows that are needed."""

    draft_lora: DraftLora | None = None
    """What a checkpoint brings for drafting; only draft forwards use it."""
    device_drafting: None = None
    shared = Shared()

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionPattern,
        cache: KVCache | None = None,
        lora: DraftLora | None = None,
    ) -> Tensor:
        """One pass over T tokens that follow what the cache keeps.

        tokens, positions: int64 `[B, T]`. The cache, None in training, is written but not advanced.
        `lora` is for drafts alone: what it changes must never be kept. Returns the last layer's
        normalised hidden states `[B, T, hidden_size]`.
        """
        backbone = self.model
        x = backbone.embed_tokens(tokens)
        where = backbone.rotary(positions, x.dtype)
        for layer in backbone.layers:
            x = layer(x, where, attention, cache, lora)
        hidden: Tensor = backbone.norm(x)
        return hidden

    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`. Several parts are read under one mask over the keys of all, so that
        attention grows with the square of their number."""
        shared_adapter(parts)
        if len(parts) == 1:
            [part] = parts
            return [self(part.tokens, part.positions, part.attention, part.cache, lora)]
        widths = [part.width for part in parts]
        hidden = self(
            torch.cat([part.tokens for part in parts], dim=1),
            torch.cat([part.positions for part in parts], dim=1),
            packed_pattern(parts),
            PackedCache([part.cache for part in parts], widths),
            lora,
        )
        return list(hidden.split(widths, dim=1))

    def placed(self, adapter: Adapter) -> Adapter:
        """See `Network`."""
        return adapter.placed(self.dtype, self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.lm_head.weight.dtype

    @property
    def cache_dtype(self) -> torch.dtype:
        """See `Network`."""
        return self.dtype

    @property
    def products(self) -> str:
        """See `Network`."""
        return str(self.dtype).removeprefix("torch.")

    def scores(self, hidden: Tensor) -> TokenScores:
        """hidden `[T, hidden_size]` to scores `[T]`, by way of their logits."""
        return score_tokens(self.logits(hidden))

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden `[..., hidden_size]` to logits `[..., vocab_size]`."""
        logits: Tensor = self.lm_head(hidden)
        return logits
