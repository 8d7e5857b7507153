"""Batches: each a pure function of seed and step, drawn ahead of the training step."""

from __future__ import annotations

import gzip
import json
import lzma
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from fim_model.errors import ConfigError
from torch.utils.data import DataLoader, Dataset

from fim_training.examples.examples import ExampleStream, SourceFile
from fim_training.trainer.objective import Batch, ControlIds, NoiseSettings, build_batch

MAX_STEPS = 2**40
"""Steps of a run whose budget is in minutes."""

AHEAD = 4
"""Batches that each process keeps ready."""


def read_split(folder: Path, split: str) -> list[SourceFile]:
    """A corpus split: `{"project", "path", "text", ...}` a line, as built or as packed.

    Raises ConfigError where there is none.
    """
    built, packed = folder / f"{split}.jsonl.gz", sorted(folder.glob(f"{split}-*.jsonl.xz"))
    if built.is_file():
        with gzip.open(built, "rt", encoding="utf-8") as lines:
            return [_source(line) for line in lines]
    if not packed:
        raise ConfigError(f"no {built}; build it with python -m fim_training.corpus.build")
    files: list[SourceFile] = []
    for path in packed:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            files += map(_source, lines)
    return files


def _source(line: str) -> SourceFile:
    row = json.loads(line)
    return SourceFile(row["path"], row["text"], row["project"])


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """The batch of every step. length: clean tokens of a row."""

    stream: ExampleStream
    control: ControlIds
    noise: NoiseSettings
    rows: int
    length: int
    seed: int

    def __getitem__(self, step: int) -> Batch:
        rng = Random(f"{self.seed}:{step}")
        rows = [self.stream.draw(rng, self.length) for _ in range(self.rows)]
        return build_batch(rows, self.length, self.control, self.noise, rng)

    def steps(self, first: int, last: int, *, workers: int = 0) -> Iterator[Batch]:
        """The batches of steps `first .. last`, in order, for any number of workers.

        Without processes a thread draws the next one while the caller uses this one.
        """
        return self._by_processes(first, last, workers) if workers else self._by_thread(first, last)

    def _by_thread(self, first: int, last: int) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as worker:
            upcoming = worker.submit(self.__getitem__, first)
            for step in range(first, last):
                batch = upcoming.result()
                if step + 1 < last:
                    upcoming = worker.submit(self.__getitem__, step + 1)
                yield batch

    def _by_processes(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        packed = DataLoader(
            _Packed(self),
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            prefetch_factor=AHEAD,
            worker_init_fn=_one_thread,
            # The files are shared, not copied; a worker never touches the GPU.
            multiprocessing_context="fork",
        )
        yield from map(pickle.loads, packed)


@dataclass(frozen=True)
class _Packed(Dataset[bytes]):
    """Batches as bytes: tensors would take shared memory, of which containers have little."""

    batches: Batches

    def __getitem__(self, step: int) -> bytes:
        return pickle.dumps(self.batches[step])


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
