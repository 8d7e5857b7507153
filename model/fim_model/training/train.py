"""Train a tri-mode model: `python -m fim_model.training.train --config default.toml`.

One process, bf16 where the processor has it, resumable at any point from the run's folder. Hidden
matrices learn by Muon (torch.optim.Muon, Jordan et al. 2024), embeddings and norms by AdamW.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import math
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random

import torch
from torch import nn

from fim_model.checkpoint import TOKENIZER, save_checkpoint
from fim_model.config import ConfigError, ModelConfig, RopeConfig
from fim_model.tokenizer import CodeTokenizer, TokenizerError
from fim_model.training.examples import ExampleStream, SourceFile
from fim_model.training.objective import (
    Batch,
    Losses,
    NoiseSettings,
    build_batch,
    joint_losses,
)
from fim_model.transformer import TriModeTransformer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. Lengths in tokens, times in seconds."""

    corpus: str
    tokenizer: str
    out: str
    steps: int
    rows: int = 24
    length: int = 384
    noisy_blocks: int = 6
    block_size: int = 16
    hidden_size: int = 256
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    intermediate_size: int = 704
    matrix_lr: float = 0.02
    vector_lr: float = 0.003
    weight_decay: float = 0.05
    warmup: int = 100
    cooldown: float = 0.4
    diffusion_weight: float = 0.3
    seed: int = 0
    threads: int = 2
    compile: bool = True
    save_every: int = 100
    validate_every: int = 200

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rows", 1), ("length", 64), ("warmup", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.cooldown <= 1:
            raise ConfigError(f"cooldown must be a share of the steps, not {self.cooldown}")

    @classmethod
    def read(cls, path: Path) -> TrainConfig:
        """Read a TOML file. Raises ConfigError, which names the file and the key."""
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as broken:
            raise ConfigError(f"{path}: cannot be read as TOML ({broken})") from None
        known = {field.name for field in fields(cls)}
        if unknown := sorted(raw.keys() - known):
            raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known are {sorted(known)}")
        try:
            return cls(**raw)
        except (ConfigError, TypeError) as wrong:
            raise ConfigError(f"{path}: {wrong}") from None

    def model(self, tokenizer: CodeTokenizer) -> ModelConfig:
        return ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            mask_token_id=tokenizer.special.mask,
            block_size=self.block_size,
            # What the model has seen: further positions cost it quality (no YaRN is trained).
            max_position_embeddings=self.length,
            fim_edits=True,
            rope=RopeConfig(),
        )

    def noise(self) -> NoiseSettings:
        return NoiseSettings(self.block_size, self.noisy_blocks)


def read_split(path: Path) -> list[SourceFile]:
    """A corpus split: one `{"project", "path", "text"}` a line, gzipped.

    Raises ConfigError where there is none.
    """
    if not path.is_file():
        raise ConfigError(f"no {path}; build it with python -m fim_model.training.corpus")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines)
        return [SourceFile(row["path"], row["text"], row["project"]) for row in rows]


def batches(
    stream: ExampleStream, config: TrainConfig, first: int, last: int, *, seed: int
) -> Iterator[Batch]:
    """The batches of steps `first .. last`, each a pure function of seed and step."""

    def at(step: int) -> Batch:
        rng = Random(f"{seed}:{step}")
        rows = [stream.draw(rng, config.length) for _ in range(config.rows)]
        return build_batch(rows, config.length, stream.tokenizer.special, config.noise(), rng)

    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(at, first)
        for step in range(first, last):
            batch = upcoming.result()
            if step + 1 < last:
                upcoming = worker.submit(at, step + 1)
            yield batch


def learning_rate_scale(step: int, config: TrainConfig) -> float:
    """Warm up, hold, then fall linearly to zero over the last `cooldown` share (WSD schedule)."""
    fall = config.steps * config.cooldown
    return min(1.0, (step + 1) / config.warmup, max(0.0, (config.steps - step) / fall))


def build_optimizers(model: TriModeTransformer, config: TrainConfig) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(
            matrices, lr=config.matrix_lr, momentum=0.95, weight_decay=config.weight_decay
        ),
        torch.optim.AdamW(
            others, lr=config.vector_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


class Run:
    """A training run and its folder: `state.pt` to go on from, `log.jsonl`, a checkpoint."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.folder = config, Path(config.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer = CodeTokenizer.from_file(Path(config.tokenizer))
        torch.manual_seed(config.seed)
        self.model = TriModeTransformer(config.model(self.tokenizer))
        initialise(self.model)
        self.optimizers = build_optimizers(self.model, config)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self._resume()
        if config.compile:
            self.model.compile()

    def train(self) -> None:
        config = self.config
        files = read_split(Path(config.corpus) / "train.jsonl.gz")
        held_out = read_split(Path(config.corpus) / "heldout.jsonl.gz")
        log.info("%d files, %d parameters", len(files), _parameter_count(self.model))
        stream = ExampleStream(files, self.tokenizer)
        validation = ExampleStream(held_out, self.tokenizer)
        began = time.monotonic()
        for batch in batches(stream, config, self.step, config.steps, seed=config.seed):
            losses = self._update(batch)
            now = time.monotonic()
            self.seconds, began = self.seconds + now - began, now
            self.step += 1
            self.tokens += int((batch.ar_weight > 0).sum())
            if self.step % 20 == 0:
                self._record(ar=losses.ar.item(), diffusion=losses.diffusion.item())
            if self.step % config.validate_every == 0 or self.step == config.steps:
                self._record(**validate(self.model, validation, config))
            if self.step % config.save_every == 0 or self.step == config.steps:
                self.save()

    def _update(self, batch: Batch) -> Losses:
        config = self.config
        scale = learning_rate_scale(self.step, config)
        for optimizer, base in zip(
            self.optimizers, (config.matrix_lr, config.vector_lr), strict=True
        ):
            for group in optimizer.param_groups:
                group["lr"] = base * scale
        with torch.autocast("cpu", torch.bfloat16):
            losses = joint_losses(self.model, batch)
        (losses.ar + config.diffusion_weight * losses.diffusion).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return losses

    def save(self) -> None:
        """The state to resume from, and a checkpoint that the server can load."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": (self.step, self.tokens, self.seconds),
        }
        unfinished = self.folder / "state.unfinished"
        torch.save(state, unfinished)
        unfinished.replace(self.folder / "state.pt")
        checkpoint = self.folder / "checkpoint"
        save_checkpoint(
            self.model,
            checkpoint,
            metadata={"steps": str(self.step), "tokens": str(self.tokens)},
        )
        shutil.copyfile(self.config.tokenizer, checkpoint / TOKENIZER)

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            (self.folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2))
            return
        state = torch.load(path, weights_only=True)
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError:
            raise ConfigError(f"{path} is of a model of another shape; change 'out'") from None
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds = state["progress"]
        log.info("resumed at step %d", self.step)

    def _record(self, **values: float) -> None:
        row = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds),
            **{name: round(value, 4) for name, value in values.items()},
        }
        log.info("%s", row)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")


def initialise(model: TriModeTransformer) -> None:
    """Normal weights by fan-in; projections that write to the residual stream start at zero."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(parameter)
        elif "embed_tokens" in name:
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))


@torch.no_grad()
def validate(
    model: TriModeTransformer, stream: ExampleStream, config: TrainConfig, count: int = 4
) -> dict[str, float]:
    """Mean losses on held-out projects, always on the same batches."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = [joint_losses(model, b) for b in batches(stream, config, 0, count, seed=-1)]
    model.train()
    return {
        "held_out_ar": sum(losses.ar.item() for losses in found) / count,
        "held_out_diffusion": sum(losses.diffusion.item() for losses in found) / count,
    }


def _parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or go on training. Exit code 2 where the config or its files are no good."""
    parser = argparse.ArgumentParser(prog="python -m fim_model.training.train", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a TOML file of TrainConfig")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        config = TrainConfig.read(arguments.config)
        torch.set_num_threads(config.threads)
        Run(config).train()
    except (ConfigError, TokenizerError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
