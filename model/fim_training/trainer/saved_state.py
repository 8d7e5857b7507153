"""The state of a run as safetensors files of at most 16 MB each, within a total limit.

Tensors are cut into pieces, so that no file is larger than the limit however large a tensor is.
Where the limit is too small, precision is reduced step by step (LADDER), and finally the
optimizers' memory is dropped. A run resumed from float32 equals an uninterrupted one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path

import torch
from fim_model.errors import ConfigError
from fim_model.loading.headers import TIED_HEAD
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE_BYTES = 16_000_000
HEADER_ROOM = 128 * 1024
STATE = "state"

# dtypes of the weights and of the optimizers' memory; None drops it.
LADDER: tuple[tuple[torch.dtype, torch.dtype | None], ...] = (
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, None),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """seconds: of training, in all sessions of the run."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """weights: by the parameters' names. memory: the optimizers', None where it was not kept."""

    progress: Progress
    weights: Mapping[str, Tensor]
    memory: Mapping[str, Tensor] | None


def choose_precision(
    weights: int, memory: int, max_bytes: int
) -> tuple[torch.dtype, torch.dtype | None]:
    """The highest precision of LADDER that fits into `max_bytes` (0: no limit).

    weights, memory: counts of numbers. Raises ConfigError where not even the weights fit.
    """
    for dtype, memory_dtype in LADDER:
        size = weights * dtype.itemsize
        size += memory * memory_dtype.itemsize if memory_dtype else 0
        if not max_bytes or size <= max_bytes:
            return dtype, memory_dtype
    raise ConfigError(
        f"state_mb is {max_bytes // 1_000_000}, but {weights} weights take "
        f"{weights * 2 / 1e6:.0f} MB; raise it (0: no limit), or train a smaller model"
    )


def save_state(folder: Path, state: State, max_bytes: int) -> None:
    """Write the state beside the previous one, then replace it: after any crash, one is whole."""
    memory = state.memory or {}
    precision = choose_precision(_count(state.weights), _count(memory), max_bytes)
    tensors = {f"weight {name}": t.to(precision[0]) for name, t in state.weights.items()}
    if precision[1] is not None:
        # Counts of steps stay exact.
        tensors |= {
            f"memory {name}": t if t.numel() == 1 else t.to(precision[1])
            for name, t in memory.items()
        }
    unfinished, old = folder / f"{STATE}.unfinished", folder / f"{STATE}.old"
    if old.exists() and not (folder / STATE).exists():  # a crash between the two renames below
        old.rename(folder / STATE)
    for leftover in (unfinished, old):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, pieces in enumerate(_files(tensors)):
        save_file(pieces, unfinished / f"state-{number:05}.safetensors")
    about = {
        **asdict(state.progress),
        "memory": precision[1] is not None and state.memory is not None,
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }
    (unfinished / "state.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    if (folder / STATE).exists():
        (folder / STATE).rename(old)
    unfinished.rename(folder / STATE)
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path) -> State | None:
    """The saved state of a run's folder, in float32, None without one.

    Raises ConfigError for incomplete files.
    """
    place = next((p for p in (folder / STATE, folder / f"{STATE}.old") if p.is_dir()), None)
    if place is None:
        return None
    pieces: dict[str, list[tuple[int, Tensor]]] = {}
    try:
        about = json.loads((place / "state.json").read_text(encoding="utf-8"))
        for path in sorted(place.glob("state-*.safetensors")):
            for key, piece in load_file(path).items():
                name, _, number = key.rpartition("#")
                pieces.setdefault(name, []).append((int(number), piece))
        whole = {
            name: torch.cat([p for _, p in sorted(pieces[name], key=itemgetter(0))])
            .float()
            .view(shape)
            for name, shape in about["shapes"].items()
        }
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as broken:
        raise ConfigError(f"{place} is not a whole state ({broken}); copy it again") from None
    parts: dict[str, dict[str, Tensor]] = {"weight": {}, "memory": {}}
    for name, tensor in whole.items():
        kind, _, plain = name.partition(" ")
        parts[kind][plain] = tensor
    progress = Progress(about["step"], about["tokens"], about["seconds"])
    return State(progress, parts["weight"], parts["memory"] if about["memory"] else None)


def load_old_state(folder: Path) -> State | None:
    """The state in the single file that older versions wrote, None without one."""
    path = folder / "state.pt"
    if not path.exists():
        return None
    raw = torch.load(path, weights_only=True)
    weights = {name: tensor for name, tensor in raw["model"].items() if name != TIED_HEAD}
    memory = {
        f"{number}/{index}/{name}": value
        for number, saved in enumerate(raw["optimizers"])
        for index, values in saved["state"].items()
        for name, value in values.items()
    }
    return State(Progress(*raw["progress"]), weights, memory)


def optimizer_memory(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every tensor that the optimizers remember, by optimizer, parameter and name."""
    return {
        f"{number}/{index}/{name}": value
        for number, optimizer in enumerate(optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_memory(optimizers: list[torch.optim.Optimizer], memory: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_memory`."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in memory.items():
        number, index, name = key.split("/")
        states[int(number)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _count(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _files(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors in pieces, file by file."""
    room = FILE_BYTES - HEADER_ROOM
    file: dict[str, Tensor] = {}
    left = room
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().reshape(-1)
        number = start = 0
        while start < flat.numel() or not number:
            if left < 4096:
                yield file
                file, left = {}, room
            end = min(start + left // flat.itemsize, flat.numel())
            # A copy: safetensors refuses tensors that share their memory.
            file[f"{name}#{number}"] = flat[start:end].clone()
            left -= (end - start) * flat.itemsize
            start, number = end, number + 1
    if file:
        yield file
