"""Read a Llama-shaped model from a GGUF file, llama.cpp's format.

One file holds everything: the shape and the tokenizer are metadata, the weights are quantised in
blocks. `read_gguf` returns all three in the terms of a Hugging Face checkpoint; the `gguf` package
parses the container and dequantises. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.errors import CheckpointError

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor
    from torch import Tensor

ARCHITECTURES = ("llama", "qwen2")
"""Values of `general.architecture` that this package runs; Mistral's files say `llama`."""

_GPT2_WORDS: dict[str, Any] = {
    "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
}  # fmt: skip
_BYTES: dict[str, Any] = _GPT2_WORDS | {"use_regex": False}
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_WORDS = _QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(words: str) -> dict[str, Any]:
    pattern = {"Regex": words}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


_DIGITS: dict[str, Any] = {"type": "Digits", "individual_digits": True}

PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _GPT2_WORDS,
    "smollm": _sequence(_DIGITS, _GPT2_WORDS),
    "starcoder": _sequence(_DIGITS, _GPT2_WORDS),
    "qwen2": _sequence(_split(_QWEN2_WORDS), _BYTES),
    "llama-bpe": _sequence(_split(_LLAMA3_WORDS), _BYTES),
}
"""`tokenizer.ggml.pre`: how text is cut before merges apply, as llama.cpp implements each name."""

_SPECIAL_KINDS = (3, 4)
"""`tokenizer.ggml.token_type` of control and user-defined tokens."""

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTER_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A GGUF file in Hugging Face terms.

    config: the fields of `config.json`. tokenizer: the content of `tokenizer.json`.
    name, licence: as the file states them, "" where it does not. `tensors` reads the weights.
    """

    path: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    name: str
    licence: str
    reader: GGUFReader

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Each weight by transformers' name, dequantised to float32, one at a time.

        Raises CheckpointError for a tensor that no Llama has.
        """
        rotated = self.reader.fields["general.architecture"].contents() == "llama"
        for tensor in self.reader.tensors:
            if tensor.name == "rope_freqs.weight":
                continue
            name = _local_name(tensor, self.path)
            heads = ""
            if rotated and name.endswith(("q_proj.weight", "q_proj.bias")):
                heads = "num_attention_heads"
            elif rotated and name.endswith(("k_proj.weight", "k_proj.bias")):
                heads = "num_key_value_heads"
            weight = _dequantised(tensor)
            yield name, _unpermuted(weight, self.config[heads]) if heads else weight


def read_gguf(path: Path) -> GgufModel:
    """Read shape and tokenizer of a GGUF file; the weights stay in the file until asked for.

    Raises CheckpointError for a missing or damaged file, an architecture or a tokenizer that this
    package does not run, or where the `gguf` package is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise CheckpointError(
            f"{path}: reading GGUF needs the package gguf; pip install gguf"
        ) from None
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        reader = GGUFReader(path)
    except (ValueError, KeyError, IndexError, OSError) as broken:
        raise CheckpointError(f"{path}: not a readable GGUF file ({broken})") from None
    metadata = _Metadata(reader, path)
    architecture = metadata.required("general.architecture")
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: the architecture is {architecture!r}; supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return GgufModel(
        path,
        _config(metadata, architecture, reader),
        _tokenizer(metadata),
        metadata.get("general.name", ""),
        metadata.get("general.license", ""),
        reader,
    )


class _Metadata:
    """A file's key-value pairs, and errors that name the file."""

    def __init__(self, reader: GGUFReader, path: Path) -> None:
        self._fields, self._path = reader.fields, path

    def get(self, key: str, default: Any = None) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def required(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"{self._path}: the metadata lacks {key!r}")
        return value

    def fail(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {reason}")


def _config(metadata: _Metadata, architecture: str, reader: GGUFReader) -> dict[str, Any]:
    def field(name: str) -> Any:
        return metadata.required(f"{architecture}.{name}")

    heads, hidden = field("attention.head_count"), field("embedding_length")
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none":
        raise metadata.fail(f"rope scaling {scaling!r} is not supported in GGUF files")
    names = {tensor.name for tensor in reader.tensors}
    return {
        "model_type": architecture,
        "hidden_act": "silu",
        "vocab_size": len(metadata.required("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "num_hidden_layers": field("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get(f"{architecture}.attention.head_count_kv", heads),
        "head_dim": metadata.get(f"{architecture}.attention.key_length", hidden // heads),
        "intermediate_size": field("feed_forward_length"),
        "rms_norm_eps": field("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": field("context_length"),
        "tie_word_embeddings": "output.weight" not in names,
        "rope_theta": metadata.get(f"{architecture}.rope.freq_base", 10_000.0),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
    }


def _tokenizer(metadata: _Metadata) -> dict[str, Any]:
    kind = metadata.required("tokenizer.ggml.model")
    if kind != "gpt2":
        raise metadata.fail(f"the tokenizer is {kind!r}; only byte-level BPE ('gpt2') is read")
    rule = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if rule not in PRE_TOKENIZERS:
        raise metadata.fail(
            f"the pre-tokenizer {rule!r} is not known; known are {', '.join(PRE_TOKENIZERS)}"
        )
    tokens = metadata.required("tokenizer.ggml.tokens")
    kinds = metadata.required("tokenizer.ggml.token_type")
    added = [
        {
            "id": token_id, "content": text, "special": True, "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": False,
        }
        for token_id, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in _SPECIAL_KINDS
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[rule],
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: token_id for token_id, text in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata.required("tokenizer.ggml.merges")],
        },
    }  # fmt: skip


def _local_name(tensor: ReaderTensor, path: Path) -> str:
    if name := OUTER_TENSORS.get(tensor.name):
        return name
    match = _LAYER_TENSOR.fullmatch(tensor.name)
    if match is None or match[2] not in LAYER_TENSORS:
        raise CheckpointError(f"{path}: the tensor {tensor.name} is not part of a Llama")
    return f"model.layers.{match[1]}.{LAYER_TENSORS[match[2]]}.{match[3]}"


def _dequantised(tensor: ReaderTensor) -> Tensor:
    import torch
    from gguf import dequantize

    values = dequantize(tensor.data, tensor.tensor_type)
    # GGUF states the fastest dimension first.
    shape = [int(size) for size in reversed(tensor.shape)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def _unpermuted(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's interleaving of a head's two rotary halves."""
    rows = weight.shape[0]
    pairs = weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape).contiguous()
