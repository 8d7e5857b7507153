"""Model shapes for speed benchmarks, run with random weights: values do not affect the time."""

from __future__ import annotations

from dataclasses import replace

from fim_model.loading.checkpoint import default_checkpoint
from fim_model.loading.headers import read_config
from fim_model.network.config import ModelConfig
from fim_model.network.rope import RopeConfig

SHAPES = ("nld-3b", "nld-8b", "nld-14b", "default")

_NLD_8B = ModelConfig(
    vocab_size=131_072, hidden_size=4096, num_hidden_layers=34, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, intermediate_size=14_336, mask_token_id=100,
    block_size=32, max_position_embeddings=262_144, tie_word_embeddings=False,
    rope=RopeConfig(
        rope_type="yarn", rope_theta=1e6, factor=16.0, original_max_position_embeddings=16_384,
        mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1,
    ),
)  # fmt: skip

_NLD = {
    "nld-3b": replace(_NLD_8B, hidden_size=3072, num_hidden_layers=26, intermediate_size=9216),
    "nld-8b": _NLD_8B,
    "nld-14b": replace(_NLD_8B, hidden_size=5120, num_hidden_layers=40, intermediate_size=16_384),
}


def shape(name: str) -> ModelConfig:
    """The config of one of SHAPES; `default` is read from the bundled checkpoint."""
    return read_config(default_checkpoint()) if name == "default" else _NLD[name]
