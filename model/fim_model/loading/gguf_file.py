"""Read a Llama-shaped model from a GGUF file, llama.cpp's format.

One file holds everything: shape, tokenizer and chat template are metadata, the weights are
quantised in blocks. `read_gguf` returns them in the terms of a Hugging Face checkpoint; the `gguf`
package parses the container and dequantises. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.errors import CheckpointError
from fim_model.loading.gguf_metadata import Metadata
from fim_model.loading.gguf_tokenizer import SPECIAL_KINDS, fim_markers, tokenizer_json
from fim_model.network.rope import RopeConfig

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor
    from torch import Tensor

ARCHITECTURES = ("llama", "qwen2")
"""Values of `general.architecture` that this package runs; Mistral's files say `llama`."""

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


SUFFIX = ".gguf"

_FREQUENCY_FACTORS = "rope_freqs.weight"
"""What Llama 3's stretched frequencies are divided by."""

_LLAMA3_WINDOW, _LLAMA3_LOW, _LLAMA3_HIGH = 8192, 1.0, 4.0

_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<EOT>", "▁<EOT>", "</s>")
"""Control tokens that end a text by their names, as in llama.cpp; a file states only some."""


@dataclass(frozen=True)
class GgufModel:
    """A GGUF file in Hugging Face terms.

    config: the fields of `config.json`. tokenizer: the content of `tokenizer.json`. fim_markers:
    the texts before prefix, suffix and middle, where the file names them. chat_template, name,
    licence: as the file states them, "" where it does not. `tensors` reads the weights.
    """

    path: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    fim_markers: tuple[str, str, str] | None
    chat_template: str
    name: str
    licence: str
    reader: GGUFReader

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Each weight by transformers' name, dequantised to float32, one at a time.

        Raises CheckpointError for a tensor that no Llama has, and for a quantisation that the
        gguf package does not read.
        """
        for name in self._stored:
            yield name, self.tensor(name)

    def tensor(self, name: str) -> Tensor:
        """One weight by transformers' name, as `tensors` gives it."""
        stored = self._stored[name]
        weight = _dequantised(stored, self.path)
        heads = ""
        if self.reader.fields["general.architecture"].contents() == "llama":
            if name.endswith(("q_proj.weight", "q_proj.bias")):
                heads = "num_attention_heads"
            elif name.endswith(("k_proj.weight", "k_proj.bias")):
                heads = "num_key_value_heads"
        return _unpermuted(weight, self.config[heads]) if heads else weight

    @cached_property
    def _stored(self) -> dict[str, ReaderTensor]:
        tensors = self.reader.tensors
        return {_local_name(t, self.path): t for t in tensors if t.name != _FREQUENCY_FACTORS}

    def headers(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """Name, shape and type of each weight, without reading it. Raises CheckpointError."""
        for tensor in self.reader.tensors:
            if tensor.name != _FREQUENCY_FACTORS:
                yield _local_name(tensor, self.path), _shape(tensor), tensor.tensor_type.name


def is_gguf(place: Path) -> bool:
    """Whether a path names a GGUF file, by its suffix."""
    return place.suffix.lower() == SUFFIX


def read_gguf(path: Path) -> GgufModel:
    """Read shape and tokenizer of a GGUF file; the weights stay in the file until asked for.

    The last file is kept: parsing a vocabulary takes a second. `forget_gguf` drops it. Raises
    CheckpointError for a missing or damaged file, an architecture or a tokenizer that this package
    does not run, or where the `gguf` package is not installed.
    """
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise CheckpointError(
            f"{path}: reading GGUF needs the package gguf; pip install gguf"
        ) from None
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


def forget_gguf() -> None:
    """Close the file that `read_gguf` keeps."""
    _read.cache_clear()


@lru_cache(maxsize=1)
def _read(path: Path, modified: int, size: int) -> GgufModel:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (ValueError, KeyError, IndexError, OSError) as broken:
        raise CheckpointError(f"{path}: not a readable GGUF file ({broken})") from None
    metadata = Metadata(reader, path)
    architecture = metadata.required("general.architecture")
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: the architecture is {architecture!r}; supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return GgufModel(
        path,
        _config(metadata, architecture, reader),
        tokenizer_json(metadata),
        fim_markers(metadata),
        metadata.get("tokenizer.chat_template", ""),
        metadata.get("general.name", ""),
        metadata.get("general.license", ""),
        reader,
    )


def _config(metadata: Metadata, architecture: str, reader: GGUFReader) -> dict[str, Any]:
    def field(name: str) -> Any:
        return metadata.required(f"{architecture}.{name}")

    heads, hidden = field("attention.head_count"), field("embedding_length")
    head_dim = metadata.get(f"{architecture}.attention.key_length", hidden // heads)
    theta = metadata.get(f"{architecture}.rope.freq_base", 10_000.0)
    rotated = metadata.get(f"{architecture}.rope.dimension_count", head_dim)
    if rotated != head_dim:
        raise metadata.fail(
            f"{rotated} of a head's {head_dim} numbers are rotated; only all of them is supported"
        )
    names = {tensor.name for tensor in reader.tensors}
    return {
        "model_type": architecture,
        "hidden_act": "silu",
        "vocab_size": len(metadata.required("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "num_hidden_layers": field("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get(f"{architecture}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": field("feed_forward_length"),
        "rms_norm_eps": field("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": field("context_length"),
        "tie_word_embeddings": "output.weight" not in names,
        "rope_theta": theta,
        "rope_scaling": _rope_scaling(metadata, architecture, reader, theta, head_dim),
        "sliding_window": metadata.get(f"{architecture}.attention.sliding_window"),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _ends(metadata),
    }


def _ends(metadata: Metadata) -> list[int]:
    """The ids that end a text, the one that the file calls so first."""
    keys = ("eos", "eot", "eom")
    stated = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in keys)
    tokens = metadata.required("tokenizer.ggml.tokens")
    kinds = metadata.required("tokenizer.ggml.token_type")
    named = [
        token_id
        for token_id, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in SPECIAL_KINDS and text in _ENDS
    ]
    return list(dict.fromkeys([*(end for end in stated if end is not None), *named]))


def _rope_scaling(
    metadata: Metadata, architecture: str, reader: GGUFReader, theta: float, head_dim: int
) -> dict[str, Any] | None:
    """`rope_scaling` of a `config.json`. Raises CheckpointError for a kind that is not known."""
    key = f"{architecture}.rope.scaling."
    kind = metadata.get(key + "type", "none")
    factor = metadata.get(key + "factor", metadata.get(f"{architecture}.rope.scale_linear", 1.0))
    factors = next((t for t in reader.tensors if t.name == _FREQUENCY_FACTORS), None)
    if kind == "linear" and factors is None:
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and factors is None and metadata.get(key + "attn_factor", 1.0) == 1.0:
        window = metadata.required(key + "original_context_length")
        return {
            "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": window,
            "beta_fast": metadata.get(key + "yarn_beta_fast", 32.0),
            "beta_slow": metadata.get(key + "yarn_beta_slow", 1.0),
        }  # fmt: skip
    if kind != "none":
        raise metadata.fail(f"rope scaling {kind!r} is not supported in this form")
    if factors is None:
        return None
    stored = _dequantised(factors, metadata.path).flatten()
    return _llama3_scaling(stored, theta, head_dim, metadata)


def _llama3_scaling(
    factors: Tensor, theta: float, head_dim: int, metadata: Metadata
) -> dict[str, Any] | None:
    """The config that Llama 3's frequency factors were computed from."""
    largest = float(factors.max())
    if largest == 1.0:
        return None
    scaling: dict[str, Any] = {
        "rope_type": "llama3", "factor": round(largest, 4), "low_freq_factor": _LLAMA3_LOW,
        "high_freq_factor": _LLAMA3_HIGH, "original_max_position_embeddings": _LLAMA3_WINDOW,
    }  # fmt: skip
    plain = RopeConfig(rope_theta=theta).inverse_frequencies(head_dim)
    stretched = RopeConfig(rope_theta=theta, **scaling).inverse_frequencies(head_dim)
    if factors.shape != plain.shape or not (plain / factors).allclose(stretched, rtol=1e-3):
        raise metadata.fail(f"the frequencies in {_FREQUENCY_FACTORS} are not those of Llama 3")
    return scaling


def _local_name(tensor: ReaderTensor, path: Path) -> str:
    if name := OUTER_TENSORS.get(tensor.name):
        return name
    match = _LAYER_TENSOR.fullmatch(tensor.name)
    if match is None or match[2] not in LAYER_TENSORS:
        raise CheckpointError(f"{path}: the tensor {tensor.name} is not part of a Llama")
    return f"model.layers.{match[1]}.{LAYER_TENSORS[match[2]]}.{match[3]}"


def _dequantised(tensor: ReaderTensor, path: Path) -> Tensor:
    import torch
    from gguf import dequantize

    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
        raise CheckpointError(
            f"{path}: {tensor.name} is stored as {tensor.tensor_type.name}, which the gguf package "
            "does not read; take a file in Q8_0, Q6_K, Q5_K, Q4_K, Q4_1, Q4_0, F16 or BF16"
        ) from None
    return torch.tensor(values, dtype=torch.float32).reshape(_shape(tensor))


def _shape(tensor: ReaderTensor) -> tuple[int, ...]:
    # GGUF states the fastest dimension first.
    return tuple(int(size) for size in reversed(tensor.shape))


def _unpermuted(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's interleaving of a head's two rotary halves."""
    rows = weight.shape[0]
    pairs = weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape).contiguous()
