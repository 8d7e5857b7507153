"""Checkpoints in Hugging Face layout (`config.json`, `tokenizer.json`, safetensors) or as GGUF.

Headers are checked before any weight is read; an error is one line that names the file. Nothing in
a checkpoint is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from fim_kernels.matmul_8bit import quantise
from fim_kernels.types import Weight8Bit
from safetensors.torch import save_file
from torch import Tensor

from fim_model.errors import CheckpointError
from fim_model.loading.draft_lora import plan_draft_lora, read_draft_lora
from fim_model.loading.gguf_file import forget_gguf, is_gguf, read_gguf
from fim_model.loading.headers import (
    CONFIG,
    INDEX,
    MAX_LEVELS,
    SCALE,
    TIED_HEAD,
    TOKENIZER,
    WEIGHTS,
    Quantization,
    check_headers,
    described,
    open_tensors,
    read_config,
    read_headers,
    read_quantization,
    weight_files,
    weight_shapes,
)
from fim_model.loading.memory import check_memory
from fim_model.loading.progress import Progress, unseen
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer

__all__ = [
    "CONFIG", "INDEX", "TOKENIZER", "WEIGHTS", "CheckpointError", "check_weights",
    "default_checkpoint", "load_model", "read_config", "save_checkpoint", "save_int8",
    "write_weights",
]  # fmt: skip


def default_checkpoint() -> Path:
    """The small model that ships with this package."""
    return Path(__file__).parents[1] / "checkpoints" / "default"


def check_weights(folder: Path) -> ModelConfig:
    """The config of a checkpoint whose tensors and draft LoRA agree with it, by their headers.

    Raises CheckpointError for a missing or truncated file, for tensors that are missing, not
    known to the architecture, or of another shape than the config says, and for a LoRA of another
    size.
    """
    config = read_config(folder)
    check_headers(config, read_headers(weight_files(folder)), folder)
    if config.mask_token_id is not None:
        plan_draft_lora(folder, config)
    return config


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    kv_tokens: int = 0,
    progress: Progress = unseen,
) -> TriModeTransformer:
    """Read a model for inference, each tensor straight to its dtype and device.

    Tensors are mapped from their file: where dtype and device are the file's own, nothing is
    copied; otherwise tensors are converted one by one, those of a GGUF file dequantised.
    `kv_tokens` is the size of the KV cache that must fit beside the weights. `progress` is called
    for every tensor. Raises CheckpointError as `check_weights` does, and where memory does not
    suffice.
    """
    config = check_weights(folder)
    lora = plan_draft_lora(folder, config) if config.mask_token_id is not None else None
    check_memory(config, dtype, device, folder, kv_tokens=kv_tokens)

    with torch.device("meta"):
        model = TriModeTransformer(config)
    shapes = weight_shapes(config)
    state: dict[str, Tensor] = {}
    left = total = sum(map(prod, shapes.values()))
    with float_tensors(folder, config, device=device) as read:
        for name in shapes:
            state[name] = read(name).to(device, dtype)
            left -= prod(shapes[name])
            progress("Loading the model", 1 - left / total)
    model.load_state_dict(state, strict=False, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.model.rotary.to(device)
    if lora is not None:
        model.draft_lora = read_draft_lora(lora, dtype=dtype, device=device)
    return model.requires_grad_(False).eval()


Read = Callable[[str], Tensor]
"""A tensor by this package's name for it."""


@contextmanager
def float_tensors(folder: Path, config: ModelConfig, *, device: str = "cpu") -> Iterator[Read]:
    """`mapped_tensors`, int8 ones dequantised to float32; others as they are stored."""
    int8 = read_quantization(folder) is not None
    matrices = {name for name, shape in weight_shapes(config).items() if int8 and len(shape) == 2}
    with mapped_tensors(folder, config, device=device) as read:

        def read_float(name: str) -> Tensor:
            if name not in matrices:
                return read(name)
            return read_int8(read, name, folder).dequantise(torch.float32)

        yield read_float


@contextmanager
def mapped_tensors(folder: Path, config: ModelConfig, *, device: str = "cpu") -> Iterator[Read]:
    """The tensors of a checked checkpoint; on a CPU they are mapped, and read where touched.

    Those of a GGUF file are dequantised to float32, one at each call.
    """
    if is_gguf(folder):
        gguf = read_gguf(folder)
        yield lambda name: gguf.tensor(config.family.stored_name(name))
        forget_gguf()
        return
    with ExitStack() as opened:
        files: dict[str, Any] = {}
        for path in weight_files(folder):
            tensors = opened.enter_context(open_tensors(path, device=device))
            files |= dict.fromkeys(tensors.keys(), tensors)

        def read(name: str) -> Tensor:
            stored = config.family.stored_name(name)
            found: Tensor = files[stored].get_tensor(stored)
            return found

        yield read


def read_int8(read: Read, name: str, folder: Path) -> Weight8Bit:
    """A stored int8 matrix, values and scale as they are. Raises CheckpointError."""
    values, scale = read(name), read(name + SCALE)
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        raise CheckpointError(
            f"{folder}: {name}{SCALE} has scales that are negative or no numbers; "
            "the file is damaged, download it again"
        )
    narrow = scale.bfloat16()
    return Weight8Bit(values, scale, narrow if torch.equal(narrow.float(), scale) else None)


def save_int8(
    model: TriModeTransformer,
    folder: Path,
    *,
    levels: int = 127,
    metadata: dict[str, str] | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write config and weights with all matrices in int8: see `headers.Quantization`.

    Norms and biases are float32. The same values as `fim_kernels.matmul_8bit.quantise` gives.
    Embedding and head keep all levels: they are small, and lose most by rounding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if model.config.tie_word_embeddings and name == TIED_HEAD:
            continue
        if tensor.ndim == 2:
            weight = quantise(tensor, levels=levels if ".layers." in name else MAX_LEVELS)
            state[name], state[name + SCALE] = weight.values.contiguous(), weight.scale
        else:
            state[name] = tensor.detach().float().contiguous()
    raw = {**model.config.to_hf(), "quantization": described(Quantization(levels))}
    (folder / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    write_weights(state, folder, metadata=metadata, shard_bytes=shard_bytes)


def save_checkpoint(
    model: TriModeTransformer,
    folder: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    metadata: dict[str, str] | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write config and weights, a tied head once. A crash leaves the old files in place.

    `shard_bytes` is the most bytes a file may take, as far as single tensors allow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == TIED_HEAD)
    }
    raw = {**model.config.to_hf(), "dtype": str(dtype).removeprefix("torch.")}
    (folder / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    write_weights(state, folder, metadata=metadata, shard_bytes=shard_bytes)


def write_weights(
    state: dict[str, Tensor],
    folder: Path,
    *,
    metadata: dict[str, str] | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write tensors as one file, or as several with an index where one would be too large."""
    about = {"format": "pt", **(metadata or {})}
    parts = _shards(state, shard_bytes)
    count = len(parts)
    names = [WEIGHTS] if count == 1 else [
        f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)
    ]  # fmt: skip
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / f"{name}.unfinished", metadata=about)
    for name in names:
        (folder / f"{name}.unfinished").replace(folder / name)
    if count > 1:
        where = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        (folder / INDEX).write_text(json.dumps({"weight_map": where}, indent=1), encoding="utf-8")
    # Files of an earlier save with other shards: a single file would win over the index.
    for old in folder.glob("model*.safetensors"):
        if old.name not in names:
            old.unlink()
    if count == 1:
        (folder / INDEX).unlink(missing_ok=True)


_HEADER_ROOM = 64 * 1024
"""Bytes of a file that are left to its header."""


def _shards(state: dict[str, Tensor], max_bytes: int | None) -> list[dict[str, Tensor]]:
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        if max_bytes is not None and parts[-1] and size + tensor.nbytes > max_bytes - _HEADER_ROOM:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    return parts
