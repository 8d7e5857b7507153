"""The shape of a model, read from and written to a Hugging Face `config.json`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

MODEL_TYPE = "ministral3"
ARCHITECTURE = "Ministral3ForCausalLM"


class ConfigError(ValueError):
    """A config that cannot describe a model; one line that names the field and the way out."""


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding. `yarn` is arXiv 2309.00071; the query scale is Llama 4's, by position.

    `original_max_position_embeddings` is the window before YaRN stretched it; the query scale is
    `1 + beta * log(1 + floor(position / original_max_position_embeddings))`, 1 inside that window.
    """

    rope_type: str = "default"
    rope_theta: float = 10_000.0
    factor: float = 1.0
    original_max_position_embeddings: int = 16_384
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    llama_4_scaling_beta: float = 0.0

    def __post_init__(self) -> None:
        if self.rope_type not in ("default", "yarn"):
            raise ConfigError(
                f"rope_type {self.rope_type!r} is not supported; supported are 'default' and 'yarn'"
            )
        for name in ("rope_theta", "factor", "original_max_position_embeddings", "beta_fast",
                     "beta_slow"):  # fmt: skip
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < math.inf:
                raise ConfigError(f"{name} of the rope must be a positive number, not {value!r}")
        for name in ("mscale", "mscale_all_dim", "llama_4_scaling_beta"):
            value = getattr(self, name)
            if value is not None and not _is_number(value):
                raise ConfigError(f"{name} of the rope must be a number, not {value!r}")

    def inverse_frequencies(self, head_dim: int) -> Tensor:
        """Angle per position of each rotated pair, float32 `[head_dim / 2]`, on the CPU.

        Also under a default device: a model that is laid out on `meta` has its table all the same.
        """
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
        frequencies = 1.0 / self.rope_theta**exponents
        if self.rope_type == "default":
            return frequencies
        keep = 1.0 - self._yarn_ramp(head_dim)
        return frequencies * keep + frequencies / self.factor * (1.0 - keep)

    def attention_factor(self) -> float:
        """Multiplies cos and sin (YaRN's temperature); 1 when both mscales are equal."""
        if self.rope_type == "default" or self.factor <= 1:
            return 1.0

        def magnitude(mscale: float) -> float:
            return 0.1 * mscale * math.log(self.factor) + 1.0

        if self.mscale and self.mscale_all_dim:
            return magnitude(self.mscale) / magnitude(self.mscale_all_dim)
        return magnitude(1.0)

    def _yarn_ramp(self, head_dim: int) -> Tensor:
        """`[head_dim / 2]`: 0 where a pair turns often enough to be kept, 1 where interpolated."""

        def dimension(rotations: float) -> float:
            turns = self.original_max_position_embeddings / (rotations * 2 * math.pi)
            return head_dim * math.log(turns) / (2 * math.log(self.rope_theta))

        low = max(math.floor(dimension(self.beta_fast)), 0)
        high = min(math.ceil(dimension(self.beta_slow)), head_dim - 1)
        span = high - low or 0.001
        pairs = torch.arange(head_dim // 2, dtype=torch.float32, device="cpu")
        return ((pairs - low) / span).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Ministral-3-shaped transformer that can also denoise blocks.

    `head_dim * num_attention_heads` need not equal `hidden_size`. `mask_token_id` is the id that
    stands for a position yet to be written; `block_size` the positions denoised together.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    mask_token_id: int
    block_size: int = 16
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 4096
    tie_word_embeddings: bool = True
    rope: RopeConfig = field(default_factory=RopeConfig)

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "intermediate_size", "block_size",
            "max_position_embeddings",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, not {value!r}")
        if self.block_size < 2:
            raise ConfigError("block_size must be at least 2: a block is a token and masks")
        if not _is_number(self.rms_norm_eps) or not 0 <= self.rms_norm_eps < 1:
            raise ConfigError(f"rms_norm_eps must be a small number, not {self.rms_norm_eps!r}")
        if not isinstance(self.tie_word_embeddings, bool):
            raise ConfigError(
                f"tie_word_embeddings must be true or false, not {self.tie_word_embeddings!r}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embedding, not {self.head_dim}")
        if not 0 <= self.mask_token_id < self.vocab_size:
            raise ConfigError(
                f"mask_token_id {self.mask_token_id} is outside the vocabulary of {self.vocab_size}"
            )

    @classmethod
    def from_hf(cls, raw: dict[str, Any]) -> ModelConfig:
        """Read a `config.json` of a supported `model_type`; raises ConfigError.

        Nothing that changes the logits is guessed: a field that is missing, or that asks for what
        this model does not do, is an error.
        """
        model_type = raw.get("model_type")
        if model_type != MODEL_TYPE:
            raise ConfigError(
                f"model_type {model_type!r} is not supported; supported is {MODEL_TYPE!r}"
            )
        for name, only in _FIXED.items():
            if raw.get(name, only) != only:
                raise ConfigError(f"{name} {raw[name]!r} is not supported; supported is {only!r}")
        try:
            return cls(
                rope=_rope_from_hf(raw["rope_parameters"]),
                **{name: raw[name] for name in _REQUIRED},
                **{name: raw[name] for name in _OPTIONAL if name in raw},
            )
        except KeyError as missing:
            raise ConfigError(f"the field {missing} is missing") from None
        except TypeError as wrong:
            raise ConfigError(f"a field has the wrong type: {wrong}") from None

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that `from_hf` reads; transformers' Ministral3 reads it too."""
        shape = {name: value for name, value in asdict(self).items() if name != "rope"}
        rope = {name: value for name, value in asdict(self.rope).items() if value is not None}
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            "hidden_act": "silu",
            **shape,
            "rope_parameters": rope,
        }


_REQUIRED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "intermediate_size", "mask_token_id",
    "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
)  # fmt: skip
_OPTIONAL = ("block_size",)
_FIXED: dict[str, Any] = {"hidden_act": "silu", "sliding_window": None}
_FIXED_ROPE: dict[str, Any] = {
    "attention_factor": None, "partial_rotary_factor": 1.0, "truncate": True,
}  # fmt: skip


def _rope_from_hf(raw: Any) -> RopeConfig:
    if not isinstance(raw, dict):
        raise ConfigError(f"rope_parameters must be an object, not {raw!r}")
    for name, only in _FIXED_ROPE.items():
        if raw.get(name, only) != only:
            raise ConfigError(f"{name} {raw[name]!r} of the rope is not supported")
    known = {name: raw[name] for name in RopeConfig.__dataclass_fields__ if name in raw}
    if "rope_type" not in known and "type" in raw:
        known["rope_type"] = raw["type"]
    return RopeConfig(**known)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
