"""Train a tri-mode model: `python -m fim_training.trainer.train --config base.toml`.

One process trains, others draw examples; bf16 where the device has it; the same recipe on a CPU and
on a GPU, from nothing or from a checkpoint. Resumable at any point from the run's folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from fim_model.errors import CheckpointError, ConfigError
from fim_model.network.choice import differentiable_operations
from torch import nn

from fim_training.examples.examples import ExampleStream
from fim_training.examples.real_edits import RealEdits
from fim_training.trainer.batches import MAX_STEPS, Batches, read_split
from fim_training.trainer.master_weights import MasterWeights
from fim_training.trainer.objective import Batch, Losses, joint_losses
from fim_training.trainer.optimizers import build_optimizers, learning_rate_scale, set_rates
from fim_training.trainer.saved_state import (
    Progress,
    State,
    choose_precision,
    load_old_state,
    load_state,
    optimizer_memory,
    restore_memory,
    save_state,
)
from fim_training.trainer.throughput import measured_matrix_rate, step_flops
from fim_training.trainer.train_config import TrainConfig
from fim_training.trainer.trainee import from_base, from_nothing, recompute_layers

log = logging.getLogger(__name__)

REPORT_EVERY = 20
VALIDATION_BATCHES = 4
VALIDATION_SEED = -1
MAX_WORKERS = 14


class Run:
    """A training run and its folder: `state/` to resume from, `log.jsonl`, a checkpoint.

    pause_after: minutes after which this session saves and stops; 0 for never. watch: called after
    every step, and may call `pause`.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        pause_after: float = 0.0,
        watch: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self.watch = watch
        self.began = time.monotonic()
        self.device = pick_device(config.device)
        self.trainee = from_base(config, self.device.type) if config.base else from_nothing(config)
        self.config, self.folder = self.trainee.config, Path(config.out)
        self.tokenizer, self.model = self.trainee.tokenizer, self.trainee.model.to(self.device)
        self.pause_after = pause_after * 60 if pause_after else float("inf")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.max_bytes = config.state_mb * 1_000_000
        self.weights = MasterWeights(self.model)
        choose_precision(self.weights.count(), 0, self.max_bytes)
        self.optimizers = build_optimizers(self.weights, config)
        self.step, self.tokens, self.seconds, self.remembered_from = 0, 0, 0.0, 0
        self._resume()
        self.earlier_seconds = self.seconds
        self.kept = self.tokens // config.keep_every if config.keep_every else 0
        # FlexAttention is fast only when compiled into one kernel.
        self.fused = self.device.type == "cuda" and config.compile
        if config.recompute:
            recompute_layers(self.model)
        if config.compile:
            # One graph for all layers: a graph of the whole model takes minutes to compile.
            for layer in self.model.model.layers:
                layer.compile(dynamic=False)

    def train(self) -> None:
        """Train until the run's budget or this session's time is spent."""
        with differentiable_operations():
            self._train()

    def _train(self) -> None:
        config = self.config
        train = self._batches("train", config.seed)
        validation = self._batches("heldout", VALIDATION_SEED)
        held_out = list(validation.steps(0, VALIDATION_BATCHES))
        log.info("%d files, %d parameters that learn, on %s with %d threads",
                 len(train.stream.files), self.weights.count(), self.device,
                 torch.get_num_threads())  # fmt: skip
        rate = measured_matrix_rate(self.device) if self.device.type == "cuda" else 0.0
        last = MAX_STEPS if config.minutes else config.steps
        meter = _Meter(rate)
        if self.spent >= 1:
            return
        for batch in train.steps(self.step, last, workers=self._workers()):
            losses = self._update(batch)
            self.step += 1
            self.tokens += int((batch.ar_weight > 0).sum())
            self.seconds = self.earlier_seconds + time.monotonic() - self.began
            meter.count(batch, self._flops(batch))
            self.watch(self)
            done = self.spent >= 1
            pause = self.seconds - self.earlier_seconds >= self.pause_after
            if self.step % REPORT_EVERY == 0:
                found = {"ar": losses.ar.item(), "diffusion": losses.diffusion.item()}
                self._record(**found, **meter.read())
            if self.step % config.validate_every == 0 or done:
                self._record(**validate(self, held_out))
                meter.restart()
            if self.step % config.save_every == 0 or done or pause:
                self.save()
                meter.restart()
            if done or pause:
                return

    def pause(self) -> None:
        """Save and stop after the step under way; the same command goes on from there."""
        self.pause_after = 0.0

    @property
    def spent(self) -> float:
        """Share of the run's budget that is spent, in steps or in minutes."""
        if self.config.minutes:
            return self.seconds / (60 * self.config.minutes)
        return self.step / self.config.steps

    def _update(self, batch: Batch) -> Losses:
        config = self.config
        left = 1 - self.spent
        set_rates(
            self.optimizers, learning_rate_scale(self.step - self.remembered_from, left, config)
        )
        losses, learning = [], []
        parts = batch.split(config.rows_at_once or config.rows)
        for part in parts:
            found = self.losses(part)
            total = found.ar + config.diffusion_weight * found.diffusion
            (total / len(parts)).backward()
            learning = self.weights.add_gradients()
            losses.append(Losses(found.ar.detach(), found.diffusion.detach()))
        nn.utils.clip_grad_norm_(learning, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.weights.publish()
        return _mean(losses)

    def losses(self, batch: Batch) -> Losses:
        """The joint losses of a batch, in bf16: a base's own dtype, or by autocast."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not self.config.base):
            return joint_losses(self.model, batch.to(self.device), fused=self.fused)

    def save(self) -> None:
        """Save a checkpoint that the server can load, and the state to resume from.

        The state is last: of a run that is killed before, the resumed one makes both again.
        """
        about = {"steps": str(self.step), "tokens": str(self.tokens)}
        self.trainee.save(self.folder / "checkpoint", about)
        every = self.config.keep_every
        if every and self.tokens // every > self.kept:
            self.kept = self.tokens // every
            kept = self.folder / "checkpoints" / f"{self.tokens // 1000}k"
            shutil.copytree(self.folder / "checkpoint", kept, dirs_exist_ok=True)
        progress = Progress(self.step, self.tokens, self.seconds)
        memory = optimizer_memory(self.optimizers)
        save_state(self.folder, State(progress, self.weights.tensors(), memory), self.max_bytes)

    def _resume(self) -> None:
        state = load_state(self.folder) or load_old_state(self.folder)
        if state is None:
            about = json.dumps(asdict(self.config), indent=2)
            (self.folder / "config.json").write_text(about)
            return
        shapes = {name: tensor.shape for name, tensor in state.weights.items()}
        if shapes != {name: master.shape for name, master in self.weights}:
            raise ConfigError(
                f"{self.folder / 'state'} is of a model of another shape; change 'out'"
            )
        self.weights.restore(dict(state.weights))
        progress = state.progress
        self.step, self.tokens, self.seconds = progress.step, progress.tokens, progress.seconds
        if state.memory is None:
            # Warm up again while the optimizers rebuild their moments.
            self.remembered_from = self.step
        else:
            restore_memory(self.optimizers, state.memory)
        log.info("resumed at step %d", self.step)

    def _batches(self, split: str, seed: int) -> Batches:
        files = read_split(Path(self.config.corpus), split)
        config = self.config
        stream = ExampleStream(files, self.tokenizer, fim=self.trainee.fim)
        if split == "train":  # held-out rows are the same in every run, so that runs compare
            stream = ExampleStream(
                files,
                self.tokenizer,
                edit_share=config.edit_share,
                languages=config.languages,
                fim=self.trainee.fim,
                commits=RealEdits.read(Path(config.commits)) if config.commits else None,
            )
        return Batches(
            stream, self.trainee.control, config.noise(), config.rows, config.length, seed
        )

    def _workers(self) -> int:
        if self.config.workers >= 0:
            return self.config.workers
        if self.device.type == "cpu":
            return 0
        return max(1, min(MAX_WORKERS, (os.cpu_count() or 1) - 2))

    def _flops(self, batch: Batch) -> float:
        rows, noisy = batch.noisy_limit.shape
        targets = int(((batch.ar_weight + batch.diffusion_weight) > 0).sum())
        return step_flops(self.model.config, rows, batch.clean, noisy, targets)

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


def _mean(losses: Sequence[Losses]) -> Losses:
    ar = torch.stack([found.ar for found in losses]).mean()
    return Losses(ar, torch.stack([found.diffusion for found in losses]).mean())


class _Meter:
    """Positions and operations per second since the last restart. peak: 0 where not measured."""

    def __init__(self, peak: float) -> None:
        self.peak = peak
        self.restart()

    def restart(self) -> None:
        self.began, self.positions, self.flops = time.monotonic(), 0, 0.0

    def count(self, batch: Batch, flops: float) -> None:
        self.positions += batch.tokens.numel()
        self.flops += flops

    def read(self) -> dict[str, float]:
        """Rates since the last reading; call it after the device was synchronised."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        found = {"positions_per_second": float(round(self.positions / seconds))}
        if self.peak:
            found["share_of_matrix_rate"] = self.flops / seconds / self.peak
        self.restart()
        return found


@torch.no_grad()
def validate(run: Run, held_out: Sequence[Batch]) -> dict[str, float]:
    """Mean losses over these batches."""
    run.model.eval()
    size = run.config.rows_at_once or run.config.rows
    found = [run.losses(part) for batch in held_out for part in batch.split(size)]
    run.model.train()
    return {
        "held_out_ar": sum(losses.ar.item() for losses in found) / len(found),
        "held_out_diffusion": sum(losses.diffusion.item() for losses in found) / len(found),
    }


def pick_device(name: str) -> torch.device:
    """The device by name; `auto` is a GPU if torch sees one. ConfigError for a missing device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no GPU here; take auto or cpu")
    return torch.device(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Train or resume. Exit code 2 for a bad config or bad files."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.trainer.train", description=__doc__
    )
    parser.add_argument("--config", type=Path, required=True, help="a TOML file of TrainConfig")
    parser.add_argument("--out", help="the run's folder, instead of the config's")
    parser.add_argument("--corpus", help="the corpus, built or packed, instead of the config's")
    parser.add_argument(
        "--minutes", type=float, help="length of the whole run, cooldown and resumed parts included"
    )
    parser.add_argument("--threads", type=int, help="threads of this session")
    parser.add_argument(
        "--pause-after", type=float, default=0.0, metavar="MINUTES",
        help="save and stop after this many minutes; the same command resumes later",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given: dict[str, Any] = {
        name: value
        for name in ("out", "corpus", "minutes", "threads")
        if (value := getattr(arguments, name)) is not None
    }
    try:
        config = TrainConfig.read(arguments.config, **given)
        torch.set_num_threads(config.threads)
        run = Run(config, pause_after=arguments.pause_after)
        signal.signal(signal.SIGTERM, lambda number, frame: run.pause())
        run.train()
    except (ConfigError, CheckpointError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
