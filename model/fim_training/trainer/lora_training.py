"""Low-rank updates beside frozen weights (LoRA, arXiv 2106.09685), in PEFT's layout."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from fim_model.errors import CheckpointError
from fim_model.loading.adapters import BASE, base_digest
from fim_model.loading.headers import open_tensors, read_json
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE
from safetensors.torch import save_file
from torch import Tensor, nn

PROJECTIONS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
TARGETS = tuple(path.rpartition(".")[2] for path in PROJECTIONS)
_PEFT = "base_model.model."


class LoraLinear(nn.Module):
    """`base(x) + alpha / r * B A x`. B starts at zero: the model starts as it was."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / rank
        device = base.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        down = F.linear(x, self.lora_A.to(x.dtype))
        base: Tensor = self.base(x)
        return base + F.linear(down, self.lora_B.to(x.dtype)) * self.scale

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The weight of a single equivalent matrix, in the base's dtype."""
        update = (self.lora_B.float() @ self.lora_A.float()) * self.scale
        return (self.base.weight.float() + update).to(self.base.weight.dtype)


def add_lora(
    model: TriModeTransformer,
    rank: int,
    alpha: float,
    *,
    targets: Sequence[str] = (),
    embeddings: bool = False,
) -> None:
    """Add an update to every projection of every layer and freeze the rest; with `embeddings`,
    embeddings (with a tied head) and norms stay trainable.

    targets: the projections' own names, none for all of `PROJECTIONS`.
    """
    model.requires_grad_(False)
    if embeddings:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.ndim == 1 or "embed_tokens" in name)
    for layer in model.model.layers:
        for path in PROJECTIONS:
            if targets and path.rpartition(".")[2] not in targets:
                continue
            parent = layer.get_submodule(path.rpartition(".")[0])
            name, linear = path.rpartition(".")[2], layer.get_submodule(path)
            if isinstance(linear, nn.Linear):
                setattr(parent, name, LoraLinear(linear, rank, alpha))


def save_adapter(
    model: TriModeTransformer, folder: Path, base: str, checkpoint: Path | None = None
) -> None:
    """Write the updates as PEFT does, by the names that the base's own files have.

    checkpoint: the base's folder, whose digest tells it from others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = [(n, module) for n, module in model.named_modules() if isinstance(module, LoraLinear)]
    updates = [module for _, module in named]
    targets = {name.rpartition(".")[2] for name, _ in named}
    rank = updates[0].lora_A.shape[0]
    described = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": updates[0].scale * rank,
        "target_modules": [name for name in TARGETS if name in targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "use_dora": False,
        "use_rslora": False,
    }
    if checkpoint is not None:
        described[BASE] = base_digest(checkpoint)
    tensors = {
        adapter_name(model.config, name): parameter.detach().float().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    unfinished = folder / f"{ADAPTER_FILE}.unfinished"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    # First, so that there are never weights that nothing describes.
    (folder / ADAPTER_CONFIG).write_text(json.dumps(described, indent=2), encoding="utf-8")
    unfinished.replace(folder / ADAPTER_FILE)


def adapter_name(config: ModelConfig, name: str) -> str:
    """A LoRA parameter's name in the model, as PEFT spells it for the base's own module names."""
    module, _, matrix = name.rpartition(".")
    return f"{_PEFT}{config.family.stored_name(module)}.{matrix}.weight"


def load_adapter(model: TriModeTransformer, folder: Path) -> None:
    """Load the updates that `save_adapter` wrote. Raises CheckpointError for another model's."""
    raw = read_json(folder / ADAPTER_CONFIG)
    try:
        rank, alpha = int(raw["r"]), float(raw["lora_alpha"])
        add_lora(model, rank, alpha, targets=raw.get("target_modules") or ())
    except (KeyError, TypeError, ValueError) as wrong:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: not a LoRA ({wrong!r})") from None
    path = folder / ADAPTER_FILE
    own = {
        adapter_name(model.config, name): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    with open_tensors(path) as tensors:
        found = set(tensors.keys())
        if found != own.keys():
            odd = sorted(found ^ own.keys())[0]
            raise CheckpointError(f"{path}: an adapter of another model: {odd} is in one alone")
        for name, parameter in own.items():
            tensor = tensors.get_tensor(name)
            if tensor.shape != parameter.shape:
                raise CheckpointError(
                    f"{path}: an adapter of another size: {name} is {list(tensor.shape)}, this "
                    f"model needs {list(parameter.shape)}"
                )
            parameter.data.copy_(tensor)


def merged_state(model: TriModeTransformer) -> Mapping[str, Tensor]:
    """The weights by their plain names, with every update added in."""
    modules = model.named_modules()
    updates = {name: module for name, module in modules if isinstance(module, LoraLinear)}
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        if kind in ("lora_A", "lora_B"):
            continue
        owner = module.removesuffix(".base")
        if owner in updates:
            state[f"{owner}.{kind}"] = updates[owner].merged() if kind == "weight" else tensor
        else:
            state[name] = tensor
    return state
