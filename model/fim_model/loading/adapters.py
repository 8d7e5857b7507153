"""Reads workspaces' adapters (`network/adapter.py`) in PEFT's file layout, as they are asked for.

A folder of adapters has one folder for each workspace, named as `requests.ADAPTER_NAME` says, with
`adapter_config.json` and `adapter_model.safetensors`. The config's `fim_base` tells the checkpoint
for which it was trained (`base_digest`). What is replaced or removed there is seen at the next
request.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from fim_model.errors import CheckpointError
from fim_model.loading.draft_lora import read_strength
from fim_model.loading.headers import CONFIG, TOKENIZER, open_tensors, read_headers, read_json
from fim_model.network.adapter import Adapter, LowRank
from fim_model.network.config import ModelConfig
from fim_model.network.contract import Network
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE, ADAPTER_NAME

log = logging.getLogger(__name__)

BASE = "fim_base"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")

MOST_LOADED = 4
"""Adapters kept in memory; those of cached documents stay as long as these."""

_MATRIX = re.compile(
    r"(?:.*\.)?layers\.(\d+)\.self_attn\.([qkvo]_proj)\.lora_([AB])(?:\.\w+)?\.weight"
)
_SAMPLES, _SAMPLE_BYTES = 64, 4096


def base_digest(folder: Path) -> str:
    """A digest of a checkpoint: config, tokenizer, and samples of its weights throughout.

    folder: or a single file of weights.
    """
    digest = hashlib.sha256()
    for name in (CONFIG, TOKENIZER):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    for path in [folder] if folder.is_file() else sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(size * sample // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def base_of(folder: Path) -> str:
    """The digest of the checkpoint that an adapter is for, "" where its config does not say."""
    try:
        return str(read_json(folder / ADAPTER_CONFIG).get(BASE, ""))
    except CheckpointError:
        return ""


def read_adapter(folder: Path, config: ModelConfig, base: str) -> Adapter:
    """The adapter in a folder, in float32 and the base's order.

    base: the digest of the model that runs. Raises CheckpointError for an adapter of another model,
    and for files that are none.
    """
    described = folder / ADAPTER_CONFIG
    rank, scale = read_strength(described)
    if base_of(folder) != base:
        raise CheckpointError(f"{folder}: trained for another model; run fim-server tune again")
    path = folder / ADAPTER_FILE
    names: dict[tuple[int, str, str], str] = {}
    for name, stored in read_headers([path]).items():
        match = _MATRIX.fullmatch(name)
        if match is None:
            raise CheckpointError(f"{path}: {name} is no update of {', '.join(PROJECTIONS)}")
        key = int(match[1]), match[2], match[3]
        if stored.shape != (wanted := _shapes(config, rank).get((match[2], match[3]))):
            raise CheckpointError(f"{path}: {name} has shape {stored.shape}, not {wanted}")
        names[key] = name
    layers = range(config.num_hidden_layers)
    if names.keys() != {(i, *matrix) for i in layers for matrix in _shapes(config, rank)}:
        raise CheckpointError(f"{path}: an adapter of another model: {len(names)} matrices")
    with open_tensors(path) as tensors:

        def update(layer: int, projection: str) -> LowRank:
            down, up = (
                tensors.get_tensor(names[layer, projection, side]).float().clone() for side in "AB"
            )
            up *= scale
            if not (down.isfinite().all() and up.isfinite().all()):
                raise CheckpointError(f"{path}: layer {layer}, {projection}: not all finite")
            return LowRank(down, up)

        heads = tuple(
            LowRank.side_by_side([update(i, name) for name in PROJECTIONS[:3]]) for i in layers
        )
        return Adapter(heads, tuple(update(i, PROJECTIONS[3]) for i in layers))


def _shapes(config: ModelConfig, rank: int) -> Mapping[tuple[str, str], tuple[int, ...]]:
    """By projection and matrix."""
    hidden, inner = config.hidden_size, config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    sizes = dict(
        zip(
            PROJECTIONS,
            [(hidden, inner), (hidden, keys), (hidden, keys), (inner, hidden)],
            strict=True,
        )
    )
    return {
        (name, matrix): shape
        for name, (into, out) in sizes.items()
        for matrix, shape in (("A", (rank, into)), ("B", (out, rank)))
    }


class Adapters:
    """The adapters of a folder by name, placed for a network; thread-safe.

    problems: why an adapter that is there is not used, by name.
    """

    def __init__(self, folder: Path, network: Network, base: str) -> None:
        self._folder, self._network, self._base = folder, network, base
        self._loaded: OrderedDict[str, tuple[tuple[int, ...], Adapter | None]] = OrderedDict()
        self._lock = threading.Lock()
        self.problems: dict[str, str] = {}

    def __call__(self, name: str) -> Adapter | None:
        """The adapter of this name; None if there is none, or none for this model."""
        if not ADAPTER_NAME.fullmatch(name):
            return None
        with self._lock:
            stamp = _stamp(self._folder / name)
            loaded = self._loaded.pop(name, None)
            if stamp is None:
                self.problems.pop(name, None)
                return None
            if loaded is None or loaded[0] != stamp:
                loaded = stamp, self._read(name)
            self._loaded[name] = loaded
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return loaded[1]

    def __len__(self) -> int:
        """How many are loaded."""
        with self._lock:
            return sum(adapter is not None for _, adapter in self._loaded.values())

    def _read(self, name: str) -> Adapter | None:
        self.problems.pop(name, None)
        try:
            adapter = read_adapter(self._folder / name, self._network.config, self._base)
        except (CheckpointError, OSError) as wrong:
            # Without the folder, which is the user's: a port tells the problems to others.
            self.problems[name] = str(wrong).replace(f"{self._folder / name}", name)
            log.warning("the adapter of a workspace is not used: %s", wrong)
            return None
        log.info("adapter %s loaded", name)
        return self._network.placed(adapter)


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """What tells the files from others in their place, None without them."""
    try:
        stats = [(folder / name).stat() for name in (ADAPTER_CONFIG, ADAPTER_FILE)]
    except OSError:
        return None
    return tuple(value for stat in stats for value in (stat.st_mtime_ns, stat.st_size, stat.st_ino))
