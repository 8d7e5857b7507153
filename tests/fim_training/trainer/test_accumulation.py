"""Gradient accumulation: the parts' gradients are those of their mean loss."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from fim_model.loading.checkpoint import load_model
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_training.examples.examples import ExampleStream
from fim_training.trainer.objective import (
    Batch,
    ControlIds,
    NoiseSettings,
    build_batch,
    joint_losses,
)
from fim_training.trainer.train import Run, validate
from fim_training.trainer.train_config import TrainConfig
from torch import Tensor

TENSORS = ("tokens", "positions", "target", "ar_weight", "diffusion_weight", "noisy_limit")


@pytest.fixture(scope="module")
def batch(tiny: Any, tiny_tokenizer: CodeTokenizer) -> Batch:
    """A batch of five rows."""
    rng, stream = Random(0), ExampleStream(tiny.files, tiny_tokenizer)
    rows = [stream.draw(rng, 64) for _ in range(5)]
    control = ControlIds.own(tiny_tokenizer.special)
    return build_batch(rows, 64, control, NoiseSettings(block_size=4, blocks=2), rng)


@pytest.fixture
def config(corpus: Path, tiny_tokenizer_file: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        corpus=str(corpus), tokenizer=str(tiny_tokenizer_file), out=str(tmp_path / "run"),
        steps=4, rows=4, length=64, noisy_blocks=2, block_size=4, hidden_size=16, layers=1,
        heads=2, kv_heads=1, head_dim=8, intermediate_size=24, warmup=1, threads=1,
        compile=False, save_every=1, validate_every=4,
    )  # fmt: skip


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (8, [5])])
def test_parts_hold_the_rows_in_order(batch: Batch, rows: int, sizes: list[int]) -> None:
    parts = batch.split(rows)
    assert [len(part.tokens) for part in parts] == sizes
    for name in TENSORS:
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together, getattr(batch, name))
    assert {(part.clean, part.block_size) for part in parts} == {(batch.clean, batch.block_size)}


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rows", [1, 2])
def test_gradients_of_parts_sum_to_those_of_their_mean_loss(
    tiny: Any, tiny_tokenizer: CodeTokenizer, batch: Batch, rows: int
) -> None:
    size = tiny_tokenizer.vocab_size
    model = tiny.model(vocab_size=size).requires_grad_(True)

    def loss(part: Batch) -> Tensor:
        found = joint_losses(model, part)
        return found.ar + 0.3 * found.diffusion

    parts = batch.split(rows)
    torch.stack([loss(part) for part in parts]).mean().backward()
    wanted = gradients(model)
    model.zero_grad()
    for part in parts:
        (loss(part) / len(parts)).backward()
    found = gradients(model)
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_step_in_parts_takes_the_gradient_of_the_mean(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks the optimizers' gradients and the reported losses."""
    run = Run(replace(config, rows_at_once=3))
    seen: list[dict[str, Tensor]] = []

    def clip(parameters: list[Tensor], limit: float) -> None:
        seen.append(gradients(run.model))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    batch = run._batches("train", 0)[0]
    losses = [run.losses(part) for part in batch.split(3)]
    assert [len(part.tokens) for part in batch.split(3)] == [3, 1]
    mean = sum(found.ar + config.diffusion_weight * found.diffusion for found in losses) / 2
    assert isinstance(mean, Tensor)
    mean.backward()
    wanted = gradients(run.model)
    run.model.zero_grad()
    reported = run._update(batch)
    assert reported.ar.item() == pytest.approx(sum(f.ar.item() for f in losses) / 2, rel=1e-4)
    for name, gradient in wanted.items():
        torch.testing.assert_close(seen[0][name], gradient, rtol=2e-2, atol=1e-4)


def test_parts_bound_the_rows_of_every_forward(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(replace(config, rows_at_once=1, steps=1, validate_every=1))
    sizes: list[int] = []
    real = run.losses

    def counted(batch: Batch) -> Any:
        sizes.append(len(batch.tokens))
        return real(batch)

    monkeypatch.setattr(run, "losses", counted)
    run.train()
    assert set(sizes) == {1}
    assert len(sizes) > config.rows


def test_validation_does_not_depend_on_parts(config: TrainConfig) -> None:
    """Up to the rows' weights: both are means of the same losses, with one row per part."""
    run = Run(replace(config, rows=2, rows_at_once=1))
    held_out = list(run._batches("heldout", 1).steps(0, 2))
    rows = [part for batch in held_out for part in batch.split(1)]
    with torch.no_grad():
        wanted = sum(run.losses(part).ar.item() for part in rows) / len(rows)
    assert validate(run, held_out)["held_out_ar"] == pytest.approx(wanted, rel=1e-5)


def kept(config: TrainConfig) -> list[str]:
    """Names of the kept checkpoints, the oldest first."""
    folders = Path(config.out).glob("checkpoints/*")
    return [folder.name for folder in sorted(folders, key=lambda f: int(f.name[:-1]))]


def test_checkpoints_are_kept_at_token_intervals(config: TrainConfig) -> None:
    """One for each save after a multiple of the interval was passed, besides the latest one."""
    config = replace(config, length=400, steps=5, validate_every=1)
    Run(config).train()
    assert kept(config) == []
    log = (Path(config.out) / "log.jsonl").read_text().splitlines()
    seen = [json.loads(line)["tokens"] for line in log]
    every = (seen[0] + seen[1]) // 2  # passed in steps 2, 3 or 4, and 5
    passed = [now for old, now in pairwise(seen) if now // every > old // every]
    assert 2 <= len(passed) < 4
    config = replace(config, out=config.out + "-kept", keep_every=every)
    Run(config).train()
    assert kept(config) == [f"{tokens // 1000}k" for tokens in passed]
    for name in kept(config):
        folder = Path(config.out) / "checkpoints" / name
        latest = load_model(Path(config.out) / "checkpoint")
        assert load_model(folder).config == latest.config


def test_a_resumed_run_keeps_no_checkpoint_twice(config: TrainConfig) -> None:
    """A multiple passed before the interruption is not passed again after resuming."""
    whole = replace(config, length=400, steps=5, keep_every=3000)
    Run(whole).train()
    broken = replace(whole, out=config.out + "-broken")
    for step in range(5):
        run = Run(broken, pause_after=1e-9)
        assert run.step == step
        run.train()
    assert 1 <= len(kept(whole)) < 4
    assert kept(broken) == kept(whole)
