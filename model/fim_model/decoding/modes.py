"""The modes by name: the same weights, three ways to fill a hole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fim_model.decoding.ar import autoregressive
from fim_model.decoding.commit import CommitRule
from fim_model.decoding.core import DecodingCore, Mode
from fim_model.decoding.diffusion import diffusion
from fim_model.decoding.speculation import self_speculation

MODES: Mapping[str, Callable[[DecodingCore, CommitRule], Mode]] = {
    "ar": lambda core, rule: autoregressive(core),
    "diffusion": diffusion,
    "self_speculation": lambda core, rule: self_speculation(core),
}
