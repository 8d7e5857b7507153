"""The modes by name: the same weights, several ways to fill a hole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fim_model.decoding.ar import autoregressive
from fim_model.decoding.commit_rules import CommitRule, ConfidenceThreshold
from fim_model.decoding.core import DecodingCore, Steps
from fim_model.decoding.diffusion import diffusion
from fim_model.decoding.lookup import lookup
from fim_model.decoding.native import LengthCalibration
from fim_model.decoding.quadratic import quadratic_speculation
from fim_model.decoding.speculation import self_speculation


@dataclass(frozen=True, slots=True)
class ModeOptions:
    """The parameters of all modes.

    width_budget: most positions of a forward (quadratic). block_size: positions denoised or
    drafted together, None for what the model was trained with. lengths: the model's average
    confidence by hole length (native).
    """

    rule: CommitRule = field(default_factory=ConfidenceThreshold)
    width_budget: int = 72
    block_size: int | None = None
    lengths: LengthCalibration = field(default_factory=LengthCalibration)

    def __post_init__(self) -> None:
        if self.block_size is not None and self.block_size < 2:
            raise ValueError(
                f"block size must be at least 2, a token and a mask, not {self.block_size}"
            )
        if self.width_budget < 1:
            raise ValueError(f"width budget must be at least 1, not {self.width_budget}")


MODES: Mapping[str, Callable[[DecodingCore, ModeOptions], Steps]] = {
    "ar": lambda core, options: autoregressive(core),
    "diffusion": lambda core, options: diffusion(core, options.rule),
    "self_speculation": lambda core, options: self_speculation(core),
    "quadratic_speculation": lambda core, options: quadratic_speculation(
        core, options.width_budget
    ),
    "lookup": lambda core, options: lookup(core),
}
