"""Checkpoints in Hugging Face layout: `config.json`, `tokenizer.json`, safetensors weights.

Everything that can be wrong is found from the headers, before any weight is read, and named in
one line. Nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fim_model.config import ConfigError, ModelConfig
from fim_model.transformer import TriModeTransformer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TIED_HEAD = "lm_head.weight"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; one line that names the file and the way out."""


def default_checkpoint() -> Path:
    """The small model that ships with this package."""
    return Path(__file__).parent / "checkpoints" / "default"


def read_config(folder: Path) -> ModelConfig:
    """The model's shape. Raises CheckpointError."""
    path = folder / CONFIG
    raw = _read_json(path)
    try:
        return ModelConfig.from_hf(raw)
    except ConfigError as wrong:
        raise CheckpointError(f"{path}: {wrong}") from None


def load_model(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> TriModeTransformer:
    """Read a model for inference, each tensor straight to its dtype and device.

    Raises CheckpointError for a missing or truncated file, and for tensors that are missing, not
    known to the architecture, or of another shape than the config says.
    """
    config = read_config(folder)
    with torch.device("meta"):
        model = TriModeTransformer(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del wanted[TIED_HEAD]
    files = _weight_files(folder)
    _check_headers(files, wanted, folder)

    state: dict[str, Tensor] = {}
    for path in files:
        with _open(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - a safetensors handle is no dict
                if name in wanted:
                    state[name] = tensors.get_tensor(name).to(device=device, dtype=dtype)
    model.load_state_dict(state, strict=False, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.to(device).requires_grad_(False).eval()


def save_checkpoint(
    model: TriModeTransformer,
    folder: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write config and weights; a tied head is not written twice. The old file survives a crash."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == TIED_HEAD)
    }
    raw = {**model.config.to_hf(), "dtype": str(dtype).removeprefix("torch.")}
    (folder / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    unfinished = folder / (WEIGHTS + ".unfinished")
    save_file(state, unfinished, metadata={"format": "pt", **(metadata or {})})
    unfinished.replace(folder / WEIGHTS)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder}: there is no {WEIGHTS} and no {INDEX}; is the download complete?"
        )
    names = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{folder / INDEX}: 'weight_map' is missing or empty")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX}: 'weight_map' names a file by {name!r}")
    return [folder / name for name in sorted(set(names.values()))]


def _check_headers(files: list[Path], wanted: dict[str, tuple[int, ...]], folder: Path) -> None:
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        with _open(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118
                found[name] = tuple(tensors.get_slice(name).get_shape())
    if missing := sorted(wanted.keys() - found.keys()):
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]}; "
            f"the weights do not belong to this {CONFIG}"
        )
    if unknown := sorted(found.keys() - wanted.keys() - {TIED_HEAD}):
        raise CheckpointError(
            f"{folder}: {len(unknown)} tensors are not part of this architecture, "
            f"the first is {unknown[0]}"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(found[name])}, {CONFIG} says {list(shape)}"
            )


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file is missing; is the download complete?") from None
    except (SafetensorError, OSError) as broken:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({broken}); download it again"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: the file is missing; a checkpoint is a folder with {CONFIG}, {TOKENIZER} "
            f"and {WEIGHTS}"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as broken:
        raise CheckpointError(f"{path}: cannot be read as JSON ({broken})") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: a JSON object is expected")
    return raw
