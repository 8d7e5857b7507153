"""The transformer against transformers' Ministral-3, and its forwards against a dense mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fim_model.decoding.reference import block_logits, causal_logits, dense_logits
from fim_model.network.attention_mask import Attention
from fim_model.network.kv_cache import KVCache
from fim_model.network.noisy_blocks import NoisyBlocks
from fim_model.network.rope import RopeConfig
from fim_model.network.transformer import TriModeTransformer
from torch import Tensor


def their_model(model: TriModeTransformer) -> Any:
    """transformers' class with the same config and weights."""
    from transformers import Ministral3Config, Ministral3ForCausalLM

    raw = model.config.to_hf() | {"pad_token_id": None}
    theirs = Ministral3ForCausalLM(Ministral3Config.from_dict(raw)).eval()
    missing, unexpected = theirs.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert not unexpected
    return theirs


def sequence(model: TriModeTransformer, length: int, seed: int = 0, rows: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.vocab_size, (rows, length), generator=generator)


@torch.no_grad()
def forward(
    model: TriModeTransformer,
    tokens: Tensor,
    attention: Attention = Attention.CAUSAL,
    cache: KVCache | None = None,
) -> Tensor:
    """Logits `[B, T, V]` of tokens after those in the cache."""
    start = cache.length if cache else 0
    positions = torch.arange(start, start + tokens.shape[1]).expand_as(tokens)
    return model.logits(model(tokens, positions, attention, cache))


# The logits vary enough that a wrong rotation or scale exceeds 1e-4.
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "one head each": {"num_key_value_heads": 4},
    "one key head": {"num_key_value_heads": 1},
    "heads wider than the hidden size": {"head_dim": 16},
    "heads narrower than the hidden size": {"head_dim": 2},
    "three layers, large eps": {"num_hidden_layers": 3, "rms_norm_eps": 1e-2},
}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 32,
    "llama_4_scaling_beta": 0.1,
}
ROPES = {
    "default": RopeConfig(),
    "default, long waves": RopeConfig(rope_theta=1e6),
    "yarn": RopeConfig(**YARN),
    "yarn, both mscales": RopeConfig(**YARN, mscale=1.0, mscale_all_dim=1.0),
    "yarn, two mscales": RopeConfig(**YARN, mscale=1.4, mscale_all_dim=0.6, beta_fast=8.0),
    "query scale alone": RopeConfig(original_max_position_embeddings=8, llama_4_scaling_beta=0.3),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("rope", [ROPES["default"], ROPES["yarn, both mscales"]])
def test_logits_equal_those_of_transformers(tiny: Any, shape: Any, rope: RopeConfig) -> None:
    model = tiny.model(1, rope=rope, **shape)
    tokens = sequence(model, 70, rows=2)
    with torch.no_grad():
        theirs = their_model(model)(tokens).logits
    ours = forward(model, tokens)
    assert theirs.std() > 1
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("rope", ROPES.values(), ids=ROPES)
def test_parity_holds_far_beyond_the_original_window(tiny: Any, rope: RopeConfig) -> None:
    """500 positions, 15 times the window that YaRN extends, prefilled in two parts."""
    model = tiny.model(2, rope=rope, tie_word_embeddings=False)
    tokens = sequence(model, 500)
    with torch.no_grad():
        theirs = their_model(model)(tokens).logits
    assert (forward(model, tokens) - theirs).abs().max() < 1e-4

    cache = KVCache(model.config, capacity=500)
    first = forward(model, tokens[:, :333], cache=cache)
    cache.advance(333)
    rest = forward(model, tokens[:, 333:], cache=cache)
    assert (torch.cat((first, rest), dim=1) - theirs).abs().max() < 1e-4


def test_yarn_and_the_query_scale_change_the_logits(tiny: Any) -> None:
    """Otherwise the parity tests would not cover these settings."""
    plain = tiny.model(2, rope=RopeConfig(rope_theta=1000.0))
    tokens = sequence(plain, 100)
    for rope in (RopeConfig(**YARN), RopeConfig(**(YARN | {"rope_type": "default"}))):
        other = tiny.model(2, rope=rope)
        assert (forward(plain, tokens) - forward(other, tokens)).abs().max() > 1e-2


@pytest.mark.parametrize("rope", [RopeConfig(), RopeConfig(**YARN)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_causal_forwards_equal_the_dense_mask(tiny: Any, rope: RopeConfig, kv_heads: int) -> None:
    model = tiny.model(3, rope=rope, num_key_value_heads=kv_heads)
    tokens = sequence(model, 45)
    wanted = causal_logits(model, tokens[0].tolist())
    assert (forward(model, tokens)[0] - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("rope", [RopeConfig(), RopeConfig(**YARN)])
@pytest.mark.parametrize(("past", "block"), [(0, 4), (1, 1), (7, 5), (40, 16)])
def test_a_block_over_a_cache_equals_the_dense_mask(
    tiny: Any, rope: RopeConfig, past: int, block: int
) -> None:
    model = tiny.model(4, rope=rope)
    tokens = sequence(model, past + block)
    cache = KVCache(model.config, capacity=past + block)
    if past:
        forward(model, tokens[:, :past], cache=cache)
        cache.advance(past)
    found = forward(model, tokens[:, past:], Attention.BLOCK, cache)[0]
    wanted = block_logits(model, tokens[0, :past].tolist(), tokens[0, past:].tolist())
    assert (found - wanted).abs().max() < 1e-4
    if block > 1:
        causal = causal_logits(model, tokens[0].tolist())[past:]
        assert (found[0] - causal[0]).abs().max() > 1e-2  # attention did look ahead


def test_one_token_at_a_time_equals_all_at_once(tiny: Any) -> None:
    model = tiny.model(5)
    tokens = sequence(model, 20)
    cache = KVCache(model.config, capacity=20)
    rows = []
    for at in range(20):
        rows.append(forward(model, tokens[:, at : at + 1], cache=cache))
        cache.advance(1)
    assert (torch.cat(rows, dim=1) - forward(model, tokens)).abs().max() < 1e-4


def test_noisy_blocks_equal_the_dense_mask(tiny: Any) -> None:
    """Six clean tokens, then two noisy blocks of two that see 3 and 5 of the clean ones."""
    model = tiny.model(6)
    tokens = sequence(model, 10)
    noisy = torch.tensor(
        [
            [1, 1, 1, 0, 0, 0, 1, 1, 0, 0],
            [1, 1, 1, 0, 0, 0, 1, 1, 0, 0],
            [1, 1, 1, 1, 1, 0, 0, 0, 1, 1],
            [1, 1, 1, 1, 1, 0, 0, 0, 1, 1],
        ]
    ).bool()
    positions = torch.arange(10)[None]
    with torch.no_grad():
        hidden = model(tokens, positions, NoisyBlocks(6, noisy[None, None]))
    visible = torch.ones(10, 10).tril().bool()
    visible[6:] = noisy
    wanted = dense_logits(model, tokens[0].tolist(), visible)
    assert (model.logits(hidden)[0] - wanted).abs().max() < 1e-4


def test_a_tied_head_is_the_embedding(tiny: Any) -> None:
    tied, untied = tiny.model(tie_word_embeddings=True), tiny.model(tie_word_embeddings=False)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
