"""Rotary embedding: the angles of each position, for every kind that a supported family has.

Importing this module does not import torch: a config can be read without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fim_model.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding. `yarn` is arXiv 2309.00071, `linear` is position interpolation (arXiv
    2306.15595), `llama3` keeps fast pairs, interpolates slow ones and blends between; the query
    scale is Llama 4's, by position.

    `original_max_position_embeddings` is the window before it was stretched; the query scale is
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
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        if self.rope_type not in ROPE_TYPES:
            raise ConfigError(
                f"rope_type {self.rope_type!r} is not supported; supported are "
                f"{', '.join(map(repr, ROPE_TYPES))}"
            )
        for name in ("rope_theta", "factor", "original_max_position_embeddings", "beta_fast",
                     "beta_slow", "low_freq_factor", "high_freq_factor"):  # fmt: skip
            value = getattr(self, name)
            if not is_number(value) or not 0 < value < math.inf:
                raise ConfigError(f"{name} of the rope must be a positive number, not {value!r}")
        for name in ("mscale", "mscale_all_dim", "llama_4_scaling_beta"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise ConfigError(f"{name} of the rope must be a number, not {value!r}")
        if self.rope_type == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError("high_freq_factor of the rope must be above low_freq_factor")

    def inverse_frequencies(self, head_dim: int) -> Tensor:
        """Angle per position of each rotated pair, float32 `[head_dim / 2]`, always on the CPU.

        Also within `torch.device("meta")`: for arithmetic there torch imports its compiler first,
        which costs every start of the server seconds and tens of megabytes.
        """
        import torch

        pairs = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu")
        exponents = pairs / head_dim
        frequencies = 1.0 / self.rope_theta**exponents
        match self.rope_type:
            case "linear":
                return frequencies / self.factor
            case "llama3":
                stretched = self._llama3_ramp(frequencies)
            case "yarn":
                stretched = self._yarn_ramp(head_dim)
            case _:
                return frequencies
        return frequencies * (1.0 - stretched) + frequencies / self.factor * stretched

    def attention_factor(self) -> float:
        """Multiplies cos and sin (YaRN's temperature); 1 when both mscales are equal."""
        if self.rope_type != "yarn" or self.factor <= 1:
            return 1.0

        def magnitude(mscale: float) -> float:
            return 0.1 * mscale * math.log(self.factor) + 1.0

        if self.mscale and self.mscale_all_dim:
            return magnitude(self.mscale) / magnitude(self.mscale_all_dim)
        return magnitude(1.0)

    def _llama3_ramp(self, frequencies: Tensor) -> Tensor:
        """`[head_dim / 2]`: 0 for pairs that turn often in the old window, 1 for those that do not
        turn once in `1 / low_freq_factor` of it."""
        turns = frequencies * self.original_max_position_embeddings / (2 * math.pi)
        span = self.high_freq_factor - self.low_freq_factor
        return 1.0 - ((turns - self.low_freq_factor) / span).clamp(0, 1)

    def _yarn_ramp(self, head_dim: int) -> Tensor:
        """`[head_dim / 2]`: 0 where a pair turns often enough to be kept, 1 where interpolated."""
        import torch

        def dimension(rotations: float) -> float:
            turns = self.original_max_position_embeddings / (rotations * 2 * math.pi)
            return head_dim * math.log(turns) / (2 * math.log(self.rope_theta))

        low = max(math.floor(dimension(self.beta_fast)), 0)
        high = min(math.ceil(dimension(self.beta_slow)), head_dim - 1)
        span = high - low or 0.001
        pairs = torch.arange(head_dim // 2, dtype=torch.float32, device="cpu")
        return ((pairs - low) / span).clamp(0, 1)


def rope_from_hf(raw: dict[str, Any]) -> RopeConfig:
    """From a `config.json`, in today's form (`rope_parameters`) or the older one (`rope_theta` and
    `rope_scaling`). Raises ConfigError, KeyError for what is missing."""
    if "rope_parameters" not in raw and "rope_theta" in raw:
        scaling = raw.get("rope_scaling") or {}
        rope = _checked(scaling, "rope_scaling") | {"rope_theta": raw["rope_theta"]}
    else:
        rope = _checked(raw["rope_parameters"], "rope_parameters")
    for name, only in _FIXED.items():
        if rope.get(name, only) != only:
            raise ConfigError(f"{name} {rope[name]!r} of the rope is not supported")
    known = {name: rope[name] for name in RopeConfig.__dataclass_fields__ if name in rope}
    if "rope_type" not in known and "type" in rope:
        known["rope_type"] = rope["type"]
    missing = [name for name in _NEEDED.get(known.get("rope_type", ""), ()) if name not in known]
    if missing:
        raise ConfigError(f"{missing[0]} of the rope is missing")
    return RopeConfig(**known)


_FIXED: dict[str, Any] = {"attention_factor": None, "partial_rotary_factor": 1.0, "truncate": True}
_NEEDED = {
    "linear": ("factor",),
    "llama3": (
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    ),
    "yarn": ("factor", "original_max_position_embeddings"),
}  # fmt: skip


def _checked(rope: Any, name: str) -> dict[str, Any]:
    if not isinstance(rope, dict):
        raise ConfigError(f"{name} must be an object, not {rope!r}")
    return rope


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
