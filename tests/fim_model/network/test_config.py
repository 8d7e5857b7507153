"""Model config: reading, validation, and writing for transformers."""

from typing import Any

import pytest
import torch
from fim_model.errors import ConfigError
from fim_model.network.config import ModelConfig
from fim_model.network.rope import RopeConfig


def raw_config() -> dict[str, Any]:
    """A Ministral-3 `config.json` with a mask token, as transformers would write it."""
    return {
        "architectures": ["Ministral3ForCausalLM"],
        "model_type": "ministral3",
        "vocab_size": 64,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 40,
        "mask_token_id": 5,
        "block_size": 32,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "sliding_window": None,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "type": "yarn",
            "rope_theta": 1e6,
            "factor": 16,
            "original_max_position_embeddings": 256,
            "max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    }


def test_every_field_is_read() -> None:
    config = ModelConfig.from_hf(raw_config())
    assert config == ModelConfig(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=40,
        mask_token_id=5,
        block_size=32,
        rms_norm_eps=1e-5,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        rope=RopeConfig("yarn", 1e6, 16, 256, 32, 1, 1.0, 1.0, 0.1),
    )


@pytest.mark.parametrize("rope", [RopeConfig(), RopeConfig("yarn", factor=4.0, mscale=0.7)])
def test_a_config_round_trips(tiny: Any, rope: RopeConfig) -> None:
    config = tiny.config(rope=rope, tie_word_embeddings=False)
    assert ModelConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model_type", "gpt2", "model_type 'gpt2' is not supported; supported are 'ministral3', '"),
        ("model_type", None, "model_type None is not supported"),
        ("hidden_size", 0, "hidden_size must be a positive integer, not 0"),
        ("hidden_size", "24", "hidden_size must be a positive integer, not '24'"),
        ("num_hidden_layers", True, "num_hidden_layers must be a positive integer"),
        ("num_key_value_heads", 3, "num_attention_heads 4 is not a multiple of"),
        ("head_dim", 7, "head_dim must be even"),
        ("mask_token_id", 64, "mask_token_id 64 is outside the vocabulary of 64"),
        ("mask_token_id", -1, "mask_token_id -1 is outside"),
        ("mask_token_id", "x", "wrong type"),
        ("block_size", 0, "block_size must be a positive integer"),
        ("block_size", 1, "block_size must be at least 2"),
        ("rms_norm_eps", "tiny", "rms_norm_eps must be a small number, not 'tiny'"),
        ("fim_edits", "yes", "fim_edits must be true or false, not 'yes'"),
        ("tie_word_embeddings", "no", "tie_word_embeddings must be true or false, not 'no'"),
        ("hidden_act", "gelu", "hidden_act 'gelu' is not supported"),
        ("sliding_window", -1, "sliding_window must be a positive integer, not -1"),
        ("rope_parameters", [1], "rope_parameters must be an object"),
        ("rope_parameters", {"rope_type": "dynamic"}, "rope_type 'dynamic' is not supported"),
        ("rope_parameters", {"rope_type": "llama3"}, "factor of the rope is missing"),
        ("eos_token_id", [2, 64], "eos_token_id 64 is outside the vocabulary of 64"),
        ("rope_parameters", {"rope_theta": "big"}, "rope_theta of the rope must be a positive"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 4}, "original_max_position_embeddings"),
        ("rope_parameters", {"factor": None}, "factor of the rope must be"),
        ("rope_parameters", {"mscale": "1"}, "mscale of the rope must be a number"),
        ("rope_parameters", {"attention_factor": 1.5}, "attention_factor 1.5 of the rope"),
    ],
)
def test_invalid_fields_are_reported_in_one_line(field: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_hf(raw_config() | {field: value})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "field", ["vocab_size", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"]
)
def test_a_missing_field_is_named(field: str) -> None:
    """Even fields with a default here, because transformers' defaults differ."""
    raw = raw_config()
    del raw[field]
    with pytest.raises(ConfigError, match=f"the field '{field}' is missing"):
        ModelConfig.from_hf(raw)


@pytest.mark.parametrize("edits", [False, True])
def test_edit_training_is_written_and_read(tiny: Any, edits: bool) -> None:
    assert ModelConfig.from_hf(tiny.config(fim_edits=edits).to_hf()).fim_edits is edits


def test_transformers_reads_our_config(tiny: Any) -> None:
    from transformers import Ministral3Config

    config = tiny.config(rope=tiny.yarn(), tie_word_embeddings=False)
    theirs = Ministral3Config.from_dict(config.to_hf())
    assert (theirs.hidden_size, theirs.head_dim, theirs.tie_word_embeddings) == (24, 8, False)
    assert theirs.rope_parameters["original_max_position_embeddings"] == 32
    assert ModelConfig.from_hf(theirs.to_dict()) == config


ROPES = [
    RopeConfig(),
    RopeConfig("yarn", factor=16.0, original_max_position_embeddings=32),
    RopeConfig("yarn", 1e6, 16.0, 16384, mscale=1.0, mscale_all_dim=1.0),
    RopeConfig("yarn", 1e4, 4.0, 64, 16.0, 2.0, mscale=0.8, mscale_all_dim=0.3),
    RopeConfig("yarn", factor=1.0, original_max_position_embeddings=32),
    RopeConfig("yarn", factor=8.0, original_max_position_embeddings=3),
]


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("head_dim", [8, 64])
def test_frequencies_equal_those_of_transformers(
    tiny: Any, rope: RopeConfig, head_dim: int
) -> None:
    from transformers import Ministral3Config
    from transformers.models.ministral3.modeling_ministral3 import Ministral3RotaryEmbedding

    raw = tiny.config(rope=rope, head_dim=head_dim).to_hf()
    theirs = Ministral3RotaryEmbedding(Ministral3Config.from_dict(raw))
    torch.testing.assert_close(
        rope.inverse_frequencies(head_dim), theirs.inv_freq, rtol=1e-6, atol=0
    )
    assert rope.attention_factor() == pytest.approx(theirs.attention_scaling, rel=1e-12)


def test_without_a_mask_token_the_model_is_causal_only() -> None:
    raw = raw_config()
    del raw["mask_token_id"]
    config = ModelConfig.from_hf(raw)
    assert config.modes == ("adaptive", "lookup", "ar")
    with pytest.raises(ConfigError, match="no mask token; its modes are adaptive, lookup, ar"):
        assert config.mask_id
    assert "diffusion" in ModelConfig.from_hf(raw_config()).modes
