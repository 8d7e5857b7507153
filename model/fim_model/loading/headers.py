"""Names, shapes and dtypes of a checkpoint's weights, from the headers of its files.

A checkpoint is a folder with safetensors files, or one GGUF file.

Errors in a checkpoint's tensors are found here, before any of them is read.
Importing this module does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fim_model.errors import CheckpointError, ConfigError
from fim_model.families.architectures import FAMILIES
from fim_model.loading.gguf_file import is_gguf, read_gguf
from fim_model.network.config import ModelConfig

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TIED_HEAD = "lm_head.weight"

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the matrices are stored: int8 `[rows, columns]`, in layers up to `levels` in magnitude,
    and the scale of each row as float32 `[rows]` under the matrix's name and `SCALE`."""

    levels: int


SCALE = "_scale"
MAX_LEVELS = 127
_METHOD = "int8 rows"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: its shape, and its type as the format calls it ("BF16", "Q4_0")."""

    shape: Shape
    dtype: str


def read_config(folder: Path) -> ModelConfig:
    """The model's shape. Raises CheckpointError."""
    path = folder if is_gguf(folder) else folder / CONFIG
    raw = read_gguf(folder).config if is_gguf(folder) else read_json(path)
    family = FAMILIES.get(str(raw.get("model_type")))
    if family is not None and family.masked and raw.get("mask_token_id") is None:
        raw = raw | {"mask_token_id": _mask_of_tokenizer(folder)}
    try:
        return ModelConfig.from_hf(raw)
    except ConfigError as wrong:
        raise CheckpointError(f"{path}: {wrong}") from None


def _mask_of_tokenizer(folder: Path) -> int | None:
    """The id of the mask token that a tokenizer's description names, None if it names none."""
    path = folder / TOKENIZER_CONFIG
    if is_gguf(folder) or not path.is_file():
        return None
    raw = read_json(path)
    mask, added = raw.get("mask_token"), raw.get("added_tokens_decoder")
    text = mask.get("content") if isinstance(mask, dict) else mask
    if not isinstance(text, str) or not isinstance(added, dict):
        return None
    ids = (
        token_id
        for token_id, token in added.items()
        if isinstance(token, dict) and token.get("content") == text and token_id.isdecimal()
    )
    return next(map(int, ids), None)


def read_quantization(folder: Path) -> Quantization | None:
    """The `quantization` entry of a config, None where it has none. Raises CheckpointError."""
    if is_gguf(folder):
        return None
    path = folder / CONFIG
    raw = read_json(path).get("quantization")
    if raw is None:
        return None
    method = raw.get("method") if isinstance(raw, dict) else raw
    if method != _METHOD:
        raise CheckpointError(
            f"{path}: quantization {method!r} cannot be read, only {_METHOD!r}; take a checkpoint "
            f"in {', '.join(_FLOATS)}"
        )
    levels = raw.get("levels")
    if type(levels) is not int or not 1 <= levels <= MAX_LEVELS:
        raise CheckpointError(
            f"{path}: quantization levels must be a whole number from 1 to {MAX_LEVELS}, "
            f"not {levels!r}"
        )
    return Quantization(levels)


def described(quantization: Quantization) -> dict[str, Any]:
    """The `quantization` entry of a config."""
    return {"method": _METHOD, "levels": quantization.levels}


def weight_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name and shape of every tensor a checkpoint of this config must have, a tied head left out.

    Names are this package's (transformers'); `config.family` knows those in the file.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    projections = {
        "self_attn.q_proj": (queries, hidden, config.query_bias),
        "self_attn.k_proj": (keys, hidden, config.query_bias),
        "self_attn.v_proj": (keys, hidden, config.query_bias),
        "self_attn.o_proj": (hidden, queries, config.output_bias),
        "mlp.gate_proj": (inner, hidden, config.mlp_bias),
        "mlp.up_proj": (inner, hidden, config.mlp_bias),
        "mlp.down_proj": (hidden, inner, config.mlp_bias),
    }
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for name, (rows, columns, bias) in projections.items():
            shapes[f"{prefix}{name}.weight"] = (rows, columns)
            if bias:
                shapes[f"{prefix}{name}.bias"] = (rows,)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes[TIED_HEAD] = (config.vocab_size, hidden)
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Parameters of the model; a tied head counts once."""
    return sum(_product(shape) for shape in weight_shapes(config).values())


def kv_values(config: ModelConfig) -> int:
    """Numbers in the KV cache for each token, over all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint that hold weights. Raises CheckpointError if it names none."""
    if is_gguf(folder):
        return [folder]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder}: there is no {WEIGHTS} and no {INDEX}; is the download complete?"
        )
    names = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{folder / INDEX}: 'weight_map' is missing or empty")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX}: 'weight_map' names a file by {name!r}")
    return [folder / name for name in sorted(set(names.values()))]


def read_headers(files: list[Path]) -> dict[str, Stored]:
    """Every tensor in these files, by the name it has there. Raises CheckpointError."""
    return {name: stored for path in files for name, stored in _header(path)}


def check_headers(config: ModelConfig, found: Mapping[str, Stored], folder: Path) -> None:
    """Raises CheckpointError where tensors are missing, unknown, or not as the config says."""
    family, int8 = config.family, read_quantization(folder) is not None
    wanted = {family.stored_name(name): shape for name, shape in weight_shapes(config).items()}
    matrices = {name for name, shape in wanted.items() if int8 and len(shape) == 2}
    scales = {name + SCALE: wanted[name][:1] for name in matrices}
    wanted |= dict(sorted(scales.items()))
    if missing := [name for name in wanted if name not in found]:
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]}; "
            f"the weights do not belong to this {CONFIG}"
        )
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(found[name].shape)}, {CONFIG} says {list(shape)}"
            )
        if name in matrices or name in scales:
            dtype = "I8" if name in matrices else "F32"
            if found[name].dtype != dtype:
                raise CheckpointError(
                    f"{folder}: {name} is stored as {found[name].dtype}; the quantization in "
                    f"{CONFIG} asks for {dtype}"
                )
        elif found[name].dtype not in _FLOATS and not is_gguf(folder):
            raise CheckpointError(
                f"{folder}: {name} is stored as {found[name].dtype}; quantised checkpoints cannot "
                f"be read, take one in {', '.join(_FLOATS)}"
            )
    spare = {name for name in found if name.endswith(_COMPUTED)} | {family.stored_name(TIED_HEAD)}
    if unknown := sorted(found.keys() - wanted.keys() - spare):
        raise CheckpointError(
            f"{folder}: {len(unknown)} tensors are not part of this architecture, "
            f"the first is {unknown[0]}"
        )


_FLOATS = ("BF16", "F16", "F32")
_COMPUTED = "rotary_emb.inv_freq"
"""Old Llama checkpoints store these angles, which follow from the config."""


def open_tensors(path: Path, framework: str = "pt", device: str = "cpu") -> Any:
    """The file as safetensors' own handle (mapped, not read). Raises CheckpointError."""
    try:
        return safe_open(path, framework=framework, device=device)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file is missing; is the download complete?") from None
    except (SafetensorError, OSError) as broken:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({broken}); download it again"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: the file is missing; a checkpoint is a folder with {CONFIG}, {TOKENIZER} "
            f"and {WEIGHTS}"
        ) from None
    except (OSError, ValueError, RecursionError) as broken:
        raise CheckpointError(f"{path}: cannot be read as JSON ({broken})") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: a JSON object is expected")
    return raw


def _header(path: Path) -> Iterator[tuple[str, Stored]]:
    if is_gguf(path):
        for name, shape, kind in read_gguf(path).headers():
            yield name, Stored(shape, kind)
        return
    with open_tensors(path, framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - a safetensors handle is no dict
            tensor = tensors.get_slice(name)
            yield name, Stored(tuple(tensor.get_shape()), tensor.get_dtype())


def _product(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
