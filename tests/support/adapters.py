"""Adapters with random matrices, and the plain model that each of them means."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from fim_model.loading.adapters import BASE, PROJECTIONS
from fim_model.network.transformer import TriModeTransformer
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE
from safetensors.torch import save_file
from torch import Tensor

RANK, ALPHA = 3, 6.0


def random_matrices(
    model: TriModeTransformer, seed: int, scale: float = 0.4
) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of every projection of every layer, by its module's name."""
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for i, layer in enumerate(model.model.layers):
        for name in PROJECTIONS:
            out, into = getattr(layer.self_attn, name).weight.shape
            down = torch.randn(RANK, into, generator=draw) / into**0.5
            up = torch.randn(out, RANK, generator=draw) * scale
            found[f"model.layers.{i}.self_attn.{name}"] = down, up
    return found


def merged(
    model: TriModeTransformer, matrices: dict[str, tuple[Tensor, Tensor]]
) -> TriModeTransformer:
    """A copy of the model whose own weights are W + alpha / r * B A."""
    other = copy.deepcopy(model)
    for name, (down, up) in matrices.items():
        weight = other.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            weight += ALPHA / RANK * up @ down
    return other


def write_adapter(
    folder: Path,
    matrices: dict[str, tuple[Tensor, Tensor]],
    base: str,
    name: Callable[[str], str] = lambda module: module,
) -> Path:
    """The adapter as PEFT writes it; `name` says how the base's files spell a module."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, BASE: base}
    tensors = {
        f"base_model.model.{name(module)}.lora_{side}.weight": matrix.contiguous()
        for module, pair in matrices.items()
        for side, matrix in zip("AB", pair, strict=True)
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(described))
    save_file(tensors, folder / ADAPTER_FILE)
    return folder
