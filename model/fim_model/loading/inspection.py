"""Shape, memory and abilities of a checkpoint, from its JSON files and tensor headers alone.

Imports no torch; reads and downloads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fim_model.loading.headers import (
    Stored,
    check_headers,
    kv_values,
    parameter_count,
    read_config,
    read_headers,
    weight_files,
    weight_shapes,
)
from fim_model.loading.hub import describe, local_folder, remote_headers
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.config import ModelConfig
from fim_model.prompt.window import fim_prompt

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
LORA_CONFIG = Path("linear_spec_lora") / "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ModelReport:
    """weight_bytes, kv_bytes_per_token: by dtype. int8 is for the matrices of the layers and the
    head; embeddings and norms stay in bfloat16, scales (one a row) are float32. block_size is
    None for a model that only reads causally. window: the model's own, in tokens."""

    name: str
    family: str
    parameters: int
    layers: int
    hidden_size: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocab_size: int
    window: int
    sliding_window: int | None
    stored_dtypes: tuple[str, ...]
    weight_bytes: dict[str, int]
    kv_bytes_per_token: dict[str, int]
    modes: tuple[str, ...]
    block_size: int | None
    fim_layout: str
    fim_verified: bool
    draft_lora: bool
    note: str


def inspect_checkpoint(id_or_path: str) -> ModelReport:
    """Describe a checkpoint. Raises CheckpointError where loading it would."""
    folder = describe(id_or_path)
    config = read_config(folder)
    found = _headers(id_or_path, folder)
    check_headers(config, found, folder)
    fim = fim_prompt(config, read_tokenizer(folder))
    return ModelReport(
        name=str(id_or_path),
        family=config.model_type,
        parameters=parameter_count(config),
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        window=config.max_position_embeddings,
        sliding_window=config.sliding_window,
        stored_dtypes=tuple(sorted({stored.dtype for stored in found.values()})),
        weight_bytes=weight_bytes(config),
        kv_bytes_per_token={
            dtype: kv_values(config) * BYTES[dtype] for dtype in ("float32", "bfloat16")
        },
        modes=config.modes,
        block_size=None if config.mask_token_id is None else config.block_size,
        fim_layout=f"{fim.layout.name}: {fim.layout}",
        fim_verified=fim.layout.verified,
        draft_lora=(folder / LORA_CONFIG).is_file(),
        note=config.family.note,
    )


def weight_bytes(config: ModelConfig) -> dict[str, int]:
    """Memory of the weights by dtype."""
    whole = parameter_count(config)
    matrices = [
        shape
        for name, shape in weight_shapes(config).items()
        if len(shape) == 2 and "embed_tokens" not in name
    ]
    small = sum(rows * columns for rows, columns in matrices)
    scales = sum(rows for rows, _ in matrices)
    return {
        "float32": whole * BYTES["float32"],
        "bfloat16": whole * BYTES["bfloat16"],
        "int8": small * BYTES["int8"] + scales * 4 + (whole - small) * BYTES["bfloat16"],
    }


def _headers(id_or_path: str, folder: Path) -> Mapping[str, Stored]:
    if local_folder(id_or_path) is not None:
        return read_headers(weight_files(folder))
    return remote_headers(id_or_path, folder)
