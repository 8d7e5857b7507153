"""Tiny GGUF files as llama.cpp's converter writes them, with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import random_weights
from fim_model.loading.checkpoint import TOKENIZER, save_checkpoint
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>", "<filename>")
TEXT = 'def moved(self, dx, dy):\n    return Point(self.x + 10 * dx, self.y - 25)\n\n\n"""done"""\n'

SHAPE: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
    "tie_word_embeddings": True,
}
"""Rows of 32 and 64 numbers: Q8_0 quantises 32 at a time."""

PRECISIONS = {
    "attn_k": GGMLQuantizationType.F16,
    "attn_q": GGMLQuantizationType.Q8_0,
    "ffn_down": GGMLQuantizationType.Q8_0,
    "token_embd": GGMLQuantizationType.Q8_0,
}
"""By the tensor's kind; the others are float32."""

_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def smollm_tokenizer(
    size: int = 320, text: str = TEXT, control: Sequence[str] = CONTROL
) -> Tokenizer:
    """A byte-level BPE tokenizer with SmolLM's pre-tokenizer: single digits, then GPT-2's words."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(control),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 4, trainer)
    return tokenizer


def write_own_checkpoint(folder: Path, **changes: Any) -> Path:
    """A random checkpoint of this project's family, with SmolLM's pre-tokenizer.

    changes: to a config of rows of 64 numbers and eight tokens a block.
    """
    tokenizer = smollm_tokenizer(340, control=tuple(SPECIAL_TOKEN_NAMES.values()))
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 96,
        "mask_token_id": 1,
        "block_size": 8,
        "max_position_embeddings": 512,
    }
    model = TriModeTransformer(ModelConfig(**(shape | changes)))
    random_weights(model)
    save_checkpoint(model, folder, dtype=torch.float32)
    tokenizer.save(str(folder / TOKENIZER))
    return folder


def llama(tokenizer: Tokenizer, *, seed: int = 0, **changes: Any) -> Any:
    """transformers' Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {**SHAPE, "vocab_size": tokenizer.get_vocab_size(), **changes}
    theirs = LlamaForCausalLM(LlamaConfig(**shape)).eval()
    random_weights(theirs, seed)
    return theirs


def write_gguf(
    path: Path,
    tokenizer: Tokenizer,
    *,
    architecture: str = "llama",
    words: str | None = "smollm",
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Tensor] | None = None,
    **changes: Any,
) -> Path:
    """Write a random Llama with its tokenizer.

    words: `tokenizer.ggml.pre`, omitted if None. metadata: additional text fields. extra:
    additional tensors by GGUF name. changes: to `SHAPE`.
    """
    model = llama(tokenizer, seed=seed, **changes)
    writer = GGUFWriter(path, architecture)
    shape = {**SHAPE, **changes}
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(shape["max_position_embeddings"])
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_attention_heads"])
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    writer.add_rope_freq_base(shape["rope_theta"])
    writer.add_vocab_size(tokenizer.get_vocab_size())
    for key, text in (metadata or {}).items():
        writer.add_string(key, text)
    _add_tokenizer(writer, tokenizer, words)
    heads = {"attn_q": shape["num_attention_heads"], "attn_k": shape["num_key_value_heads"]}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and shape["tie_word_embeddings"]:
            continue
        stored = _stored_name(name)
        kind = stored.removesuffix(".weight").rpartition(".")[2]
        _add_tensor(writer, stored, kind, _permuted(weight, heads.get(kind)))
    for name, weight in (extra or {}).items():
        _add_tensor(writer, name, "", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer, words: str | None) -> None:
    raw = json.loads(tokenizer.to_str())
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    writer.add_tokenizer_model("gpt2")
    if words is not None:
        writer.add_tokenizer_pre(words)
    writer.add_token_list([text for text, _ in vocab])
    kinds = [TokenType.CONTROL if text in CONTROL else TokenType.NORMAL for text, _ in vocab]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in raw["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add_tensor(writer: GGUFWriter, name: str, kind: str, weight: Tensor) -> None:
    values = weight.detach().float().contiguous().numpy()
    precision = PRECISIONS.get(kind, GGMLQuantizationType.F32)
    if precision is GGMLQuantizationType.F32 or values.ndim == 1:
        writer.add_tensor(name, values)
    elif precision is GGMLQuantizationType.F16:
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, quantize(values, precision), raw_dtype=precision)


def _stored_name(name: str) -> str:
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outer:
        return outer[name]
    _, _, layer, *rest = name.split(".")
    return f"blk.{layer}.{_NAMES['.'.join(rest[:-1])]}.{rest[-1]}"


def _permuted(weight: Tensor, heads: int | None) -> Tensor:
    """The rows of each head in llama.cpp's order, with rotary pairs adjacent."""
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return torch.swapaxes(halves, 1, 2).reshape(weight.shape)
