"""Write a checkpoint as a plain Llama in Hugging Face's layout, which vLLM and others serve.

For checkpoints that these do not read: this project's own, whose matrices may be in int8. Their
network is a Llama; what makes them denoise is lost, and so is a draft LoRA.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fim_model.errors import CheckpointError
from fim_model.loading.attribution import copy_attribution
from fim_model.loading.checkpoint import check_weights, float_tensors, write_weights
from fim_model.loading.headers import CONFIG, TOKENIZER, weight_shapes
from fim_model.loading.progress import Progress, unseen
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.config import MODEL_TYPE, ModelConfig
from fim_model.prompt.window import fim_prompt

LlamaPrecision = Literal["f32", "f16", "bf16"]
_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

SHARD_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class LlamaExport:
    """What was written. joined: whether the middle follows the prefix without a marker."""

    path: Path
    bytes: int
    tensors: int
    precision: LlamaPrecision
    layout: str
    joined: bool


def export_llama(
    folder: Path, out: Path, precision: LlamaPrecision = "f32", *, progress: Progress = unseen
) -> LlamaExport:
    """Write config, weights, tokenizer and licence of the checkpoint in `folder` into `out`.

    The weights are in memory in their new precision until they are written. Raises CheckpointError
    for a checkpoint of another family, which is served as it was published, for a rotary embedding
    that a Llama does not have, and where the folder cannot be written.
    """
    config = check_weights(folder)
    prompt = fim_prompt(config, read_tokenizer(folder))
    ends = sorted({prompt.eom, *prompt.stops})
    raw = {**_llama(config, folder), "eos_token_id": ends, "dtype": _name(precision)}
    names = list(weight_shapes(config))
    state = {}
    with float_tensors(folder, config) as read:
        for number, name in enumerate(names, 1):
            state[name] = read(name).to(_DTYPES[precision]).contiguous().clone()
            progress("Reading the model", number / len(names))
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_weights(state, out, shard_bytes=SHARD_BYTES)
        (out / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(folder / TOKENIZER, out / TOKENIZER)
        copy_attribution(folder, out)
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": config.reach,
            "eos_token": prompt.tokenizer.token_text(prompt.eom),
        }
        (out / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    except OSError as full:
        raise CheckpointError(f"{out}: cannot be written ({full.strerror or full})") from None
    size = sum(path.stat().st_size for path in out.glob("model*.safetensors"))
    layout = prompt.layout
    return LlamaExport(out, size, len(names), precision, layout.name, layout.joined)


def _llama(config: ModelConfig, folder: Path) -> dict[str, Any]:
    """The `config.json` of transformers' Llama."""
    if config.model_type != MODEL_TYPE:
        raise CheckpointError(
            f"{folder}: a {config.model_type} checkpoint is served as it was published; "
            "only this project's own are written anew"
        )
    rope = config.rope
    if rope.rope_type != "default" or rope.llama_4_scaling_beta or config.sliding_window:
        raise CheckpointError(
            f"{folder}: its rotary embedding ({rope.rope_type}) or its sliding window is no "
            "Llama's, so it cannot be exported as one"
        )
    copied = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "intermediate_size", "rms_norm_eps",
        "max_position_embeddings", "tie_word_embeddings", "bos_token_id",
    )  # fmt: skip
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        **{name: getattr(config, name) for name in copied},
        "rope_theta": rope.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": rope.rope_theta},
    }


def _name(precision: LlamaPrecision) -> str:
    return str(_DTYPES[precision]).removeprefix("torch.")
