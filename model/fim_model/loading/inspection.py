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
from fim_model.loading.stored_tokenizer import read_chat, read_tokenizer
from fim_model.network.config import ModelConfig
from fim_model.prompt.fim_prompt import FimPrompt
from fim_model.prompt.window import WINDOW, fim_prompt, kv_tokens, usable_window

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
WIDTH = 72
"""Positions of the widest forward in the default settings (`ModeOptions.width_budget`)."""
LORA_CONFIG = Path("linear_spec_lora") / "adapter_config.json"


@dataclass(frozen=True, slots=True)
class ModelReport:
    """weight_bytes, kv_bytes_per_token: by dtype. int8 is for the matrices of the layers and the
    head; embeddings and norms stay in bfloat16, scales (one a row) are float32. needed_bytes: of
    weights and the keys of one document, in the default window; a forward needs some more.
    commit_rule: which masks a forward reveals unless `bench modes` measured another one better.
    block_size is None for a model that denoises no blocks. window: the model's own, in tokens.
    works, lacks: what this project does with such a model, and what not. tested: on what.
    models: published checkpoints of this family."""

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
    needed_bytes: dict[str, int]
    modes: tuple[str, ...]
    commit_rule: str | None
    block_size: int | None
    fim_layout: str
    fim_verified: bool
    draft_lora: bool
    note: str
    works: tuple[str, ...]
    lacks: tuple[str, ...]
    tested: str
    models: tuple[str, ...]


def inspect_checkpoint(id_or_path: str) -> ModelReport:
    """Describe a checkpoint. Raises CheckpointError where loading it would."""
    folder = describe(id_or_path)
    config = read_config(folder)
    found = _headers(id_or_path, folder)
    check_headers(config, found, folder)
    tokenizer = read_tokenizer(folder)
    fim = fim_prompt(config, tokenizer)
    abilities = _abilities(config, fim, chat=read_chat(folder, tokenizer) is not None)
    keys = kv_tokens(config, usable_window(config, WINDOW, WIDTH), WIDTH) * kv_values(config)
    weights = weight_bytes(config)
    kv_bytes = {"float32": keys * 4, "bfloat16": keys * 2, "int8": keys * 4}
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
        weight_bytes=weights,
        kv_bytes_per_token={
            dtype: kv_values(config) * BYTES[dtype] for dtype in ("float32", "bfloat16")
        },
        needed_bytes={dtype: size + kv_bytes[dtype] for dtype, size in weights.items()},
        modes=config.modes,
        commit_rule=config.family.rule if "diffusion" in config.modes else None,
        block_size=config.block_size if "native" in config.modes else None,
        fim_layout=f"{fim.layout.name}: {fim.layout}",
        fim_verified=fim.layout.verified,
        draft_lora=(folder / LORA_CONFIG).is_file(),
        note=config.family.note,
        works=tuple(name for name, works in abilities.items() if works),
        lacks=tuple(name for name, works in abilities.items() if not works),
        tested=config.family.tested,
        models=config.family.models,
    )


def _abilities(config: ModelConfig, fim: FimPrompt, *, chat: bool) -> dict[str, bool]:
    """What can be asked of a model, and whether this one does it."""
    both_ways = config.family.full_attention
    edits = config.fim_edits and fim.layout.context
    return {
        "completions with the text behind the cursor": fim.layout.fills,
        "holes whose length the model finds": not both_ways or fim.expand is not None,
        "keys kept between keystrokes": not both_ways,
        "snippets of other files": fim.layout.context,
        "next edits": edits or ("native" in config.modes),
        "chat and instructions": chat and not both_ways,
    }


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
