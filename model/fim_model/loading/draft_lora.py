"""Reads the draft LoRA of a checkpoint (`linear_spec_lora/`), in PEFT's file layout.

An adapter's config, and its two thin matrices for each layer's `o_proj`; see `network/lora.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fim_model.errors import CheckpointError
from fim_model.loading.headers import Stored, open_tensors, read_headers, read_json
from fim_model.network.config import ModelConfig
from fim_model.network.lora import DraftLora

FOLDER, CONFIG, WEIGHTS = "linear_spec_lora", "adapter_config.json", "adapter_model.safetensors"


# PEFT writes `base_model.model.` before the module's name in the wrapped model, which may itself
# be wrapped; an adapter's own name may stand before `.weight`.
_NAME = re.compile(r"(?:.*\.)?layers\.(\d+)\.self_attn\.o_proj\.lora_([AB])(?:\.\w+)?\.weight")


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """A checked adapter that is not read yet. names: per layer those of A and B in the file."""

    path: Path
    names: tuple[tuple[str, str], ...]
    scale: float


def plan_draft_lora(folder: Path, config: ModelConfig) -> LoraPlan | None:
    """The adapter in a checkpoint's folder, None if it has none.

    Raises CheckpointError for an adapter of another kind or for a model of another size.
    """
    lora = folder / FOLDER
    if not lora.is_dir():
        return None
    rank, scale = read_strength(lora / CONFIG)
    path = lora / WEIGHTS
    found = read_headers([path])
    names: dict[tuple[int, str], str] = {}
    for name in found:
        match = _NAME.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{path}: {name} is not an update of o_proj, as a draft LoRA is")
        names[int(match[1]), match[2]] = name
    _check(found, names, config, rank, path)
    layers = range(config.num_hidden_layers)
    return LoraPlan(path, tuple((names[i, "A"], names[i, "B"]) for i in layers), scale)


def read_draft_lora(plan: LoraPlan, *, dtype: torch.dtype, device: str) -> DraftLora:
    """The adapter with each matrix on its device, in its dtype."""
    with open_tensors(plan.path, device=device) as tensors:
        down, up = (
            tuple(tensors.get_tensor(pair[side]).to(dtype) for pair in plan.names)
            for side in (0, 1)
        )
    return DraftLora(down, up, plan.scale)


def read_strength(path: Path) -> tuple[int, float]:
    """Rank and scale of a plain LoRA. Raises CheckpointError for variants (DoRA, biases, ...)."""
    raw = read_json(path)
    for name, plain in _PLAIN.items():
        if (raw.get(name) or plain) != plain:
            raise CheckpointError(f"{path}: {name} {raw[name]!r} is not supported for a LoRA")
    rank, alpha = raw.get("r"), raw.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise CheckpointError(f"{path}: 'r' must be a positive whole number, not {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise CheckpointError(f"{path}: 'lora_alpha' must be a number, not {alpha!r}")
    try:
        scale = alpha / (math.sqrt(rank) if raw.get("use_rslora") else rank)
    except OverflowError:
        scale = math.inf
    if not math.isfinite(scale):
        raise CheckpointError(f"{path}: 'lora_alpha' over 'r' must be finite")
    return rank, scale


_PLAIN: dict[str, Any] = {
    "peft_type": "LORA", "use_dora": False, "bias": "none", "fan_in_fan_out": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": [], "layers_to_transform": [],
}  # fmt: skip


def _check(
    found: dict[str, Stored],
    names: dict[tuple[int, str], str],
    config: ModelConfig,
    rank: int,
    path: Path,
) -> None:
    shapes = {
        "A": (rank, config.num_attention_heads * config.head_dim),
        "B": (config.hidden_size, rank),
    }
    layers = range(config.num_hidden_layers)
    wanted = {(layer, matrix) for layer in layers for matrix in shapes}
    if names.keys() != wanted:
        others = max((layer for layer, _ in names), default=-1) + 1
        raise CheckpointError(
            f"{path}: a LoRA for another size: it has {others} layers and {len(names)} matrices, "
            f"the model {config.num_hidden_layers} layers; take the one of this checkpoint"
        )
    for (_, matrix), name in names.items():
        if found[name].shape != shapes[matrix]:
            raise CheckpointError(
                f"{path}: a LoRA for another size: {name} has shape {list(found[name].shape)}, "
                f"this model and r = {rank} need {list(shapes[matrix])}"
            )
