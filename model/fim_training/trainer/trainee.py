"""The model that a run trains: a new one, or a checkpoint of any family, whole or by LoRA.

A checkpoint brings its tokenizer, mask token and block size; holes are asked for as its family
asks for them, in the layout that the server will use.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from fim_model.errors import ConfigError
from fim_model.loading import hub
from fim_model.loading.attribution import copy_attribution
from fim_model.loading.checkpoint import load_model, save_checkpoint, write_weights
from fim_model.loading.headers import CONFIG, TIED_HEAD, TOKENIZER, read_config, read_json
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import FimPrompt
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import fim_prompt
from torch import nn
from torch.utils.checkpoint import checkpoint

from fim_training.trainer.lora_training import add_lora, merged_state, save_adapter
from fim_training.trainer.objective import ControlIds
from fim_training.trainer.saved_state import FILE_BYTES
from fim_training.trainer.train_config import TrainConfig

BASE_SHARD_BYTES = 4_000_000_000
"""Size of a fine-tuned checkpoint's shards, as large checkpoints are published."""


@dataclass(frozen=True, slots=True)
class Trainee:
    """base: the folder that the model came from, None for one trained from nothing."""

    model: TriModeTransformer
    tokenizer: CodeTokenizer
    fim: FimPrompt
    control: ControlIds
    config: TrainConfig
    base: Path | None = None

    def save(self, folder: Path, metadata: dict[str, str]) -> None:
        """Save a checkpoint that the server can load; for a LoRA run, the adapter alone."""
        if self.base is None:
            save_checkpoint(self.model, folder, metadata=metadata, shard_bytes=FILE_BYTES)
            shutil.copyfile(self.config.tokenizer, folder / TOKENIZER)
        elif self.config.lora_rank and not self.config.train_embeddings:
            save_adapter(self.model, folder, self.config.base, self.base)
        else:
            save_finetuned(self.model, self.base, folder, metadata)


def from_nothing(config: TrainConfig) -> Trainee:
    """A new model. Raises ConfigError or TokenizerError."""
    tokenizer = CodeTokenizer.from_file(Path(config.tokenizer))
    torch.manual_seed(config.seed)
    model = TriModeTransformer(config.model(tokenizer))
    initialise(model)
    fim = FimPrompt.own(tokenizer)
    return Trainee(model, tokenizer, fim, ControlIds.own(tokenizer.special), config)


def from_base(config: TrainConfig, device: str) -> Trainee:
    """A checkpoint to start from, in bf16; low-rank updates are float32.

    Raises CheckpointError, or ConfigError where the joint loss is not for the model.
    """
    folder = hub.resolve(config.base, check=check_trainable)
    check_trainable(folder)
    tokenizer = read_tokenizer(folder)
    model = load_model(folder, dtype=torch.bfloat16, device=device).train()
    # Tensors are still mapped from the file: trainable ones must not write there.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    torch.manual_seed(config.seed)
    if config.lora_rank:
        alpha, embeddings = config.lora_alpha, config.train_embeddings
        targets = config.lora_targets
        add_lora(model, config.lora_rank, alpha, targets=targets, embeddings=embeddings)
    else:
        model.requires_grad_(True)
    fim = fim_prompt(model.config, tokenizer)
    control = ControlIds.of(fim, model.config.mask_id)
    return Trainee(
        model, tokenizer, fim, control, config.with_block(model.config.block_size), folder
    )


def check_trainable(folder: Path) -> None:
    """Raise ConfigError for a checkpoint that the joint loss of a causal model which denoises
    blocks is not for."""
    config = read_config(folder)
    if config.mask_token_id is None:
        raise ConfigError(
            f"{folder}: a model without a mask token is causal only; the joint loss needs one "
            f"that denoises, {FOR_EXAMPLE}"
        )
    if config.family.full_attention:
        raise ConfigError(
            f"{folder}: a model of the family {config.family.model_type} reads both ways at once; "
            f"the joint loss needs a causal one that denoises blocks, {FOR_EXAMPLE}"
        )


FOR_EXAMPLE = "such as nvidia/Nemotron-Labs-Diffusion-3B-Base"


def save_finetuned(
    model: TriModeTransformer, base: Path, folder: Path, metadata: dict[str, str]
) -> None:
    """Write weights, with updates merged in, as the base's files are written; bf16. The base's
    tokenizer, licence and provenance go with them.

    The base's draft LoRA is left behind: it was made for other weights. So is its `quantization`:
    these weights are not stored in 8 bits, even if the base's are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied = model.config.tie_word_embeddings
    state = {
        model.config.family.stored_name(name): tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in merged_state(model).items()
        if not (tied and name == TIED_HEAD)
    }
    write_weights(state, folder, metadata=metadata, shard_bytes=BASE_SHARD_BYTES)
    described = read_json(base / CONFIG) | {"dtype": "bfloat16"}
    described.pop("quantization", None)
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(base / TOKENIZER, folder / TOKENIZER)
    copy_attribution(base, folder)


def initialise(model: TriModeTransformer) -> None:
    """Normal weights by fan-in; projections that write to the residual stream start at zero."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
        elif "embed_tokens" in name:
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))


def recompute_layers(model: TriModeTransformer) -> None:
    """Keep only each layer's input; the backward recomputes the rest (arXiv 1604.06174).

    That is a third more arithmetic for a small part of the memory.
    """
    for layer in model.model.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
