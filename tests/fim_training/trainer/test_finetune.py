"""Fine-tuning a Nemotron-Labs-Diffusion checkpoint for infilling: all weights, and LoRA."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from canvas_checkpoints import dream, llada, open_dcoder
from checkpoints import nld_checkpoint
from fim_model.errors import ConfigError
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model, save_int8
from fim_model.loading.headers import read_config, read_headers, weight_files
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE, CompletionRequest
from fim_training.shipping import merge_lora
from fim_training.trainer import train as train_module
from fim_training.trainer.finetune_memory import training_bytes
from fim_training.trainer.lora_training import LoraLinear, adapter_name, merged_state
from fim_training.trainer.train import Run
from fim_training.trainer.train_config import TrainConfig
from fim_training.trainer.trainee import Trainee, check_trainable, save_finetuned
from gguf_files import write_own_checkpoint
from safetensors.torch import load_file
from torch import Tensor


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nld") / "base"
    nld_checkpoint(folder)
    return folder


@pytest.fixture
def config(base: Path, tiny: Any, tmp_path: Path) -> TrainConfig:
    for split in ("train", "heldout"):
        with gzip.open(tmp_path / f"{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
            for file in tiny.files:
                row = {"project": "shapes", "path": file.path, "text": file.text}
                lines.write(json.dumps(row) + "\n")
    return TrainConfig(
        corpus=str(tmp_path), base=str(base), out=str(tmp_path / "run"), steps=3, rows=2,
        length=128, noisy_blocks=2, warmup=1, threads=1, compile=False, save_every=2,
        validate_every=3, matrix_lr=0.01, vector_lr=0.01,
    )  # fmt: skip


def lora(config: TrainConfig) -> TrainConfig:
    return replace(config, lora_rank=4, lora_alpha=8.0)


def test_training_prompts_equal_the_servers(config: TrainConfig) -> None:
    """Tekken's markers, the config's end of text and mask token, blocks of 32."""
    run = Run(config)
    batch = next(run._batches("train", 0).steps(0, 1))
    token = run.tokenizer.token_id
    clean = batch.tokens[:, : batch.clean]
    middles = (batch.ar_weight > 1).nonzero()
    assert batch.block_size == 32
    assert {token("[SUFFIX]"), token("[PREFIX]")} <= set(clean.flatten().tolist())
    assert len(middles)
    assert (batch.tokens[:, batch.clean :] == 100).any()
    assert not (clean == 100).any()
    assert (batch.target[batch.ar_weight > 1] == 11).any()
    markers = torch.tensor([token("[SUFFIX]"), token("[PREFIX]")])
    assert not batch.ar_weight[torch.isin(batch.target, markers)].any()


def test_the_whole_model_learns_and_the_server_loads_it(config: TrainConfig, base: Path) -> None:
    run = Run(config)
    run.train()
    saved = Path(config.out) / "checkpoint"
    before, after = load_model(base).state_dict(), load_model(saved).state_dict()
    assert read_config(saved) == read_config(base)
    theirs, ours = (read_headers(weight_files(folder)) for folder in (base, saved))
    assert theirs.keys() == ours.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    for name, weight in run.model.state_dict().items():
        assert torch.equal(after[name], weight.bfloat16().float())
    assert not (saved / "linear_spec_lora").exists()  # calibrated for other weights
    infiller = Infiller.load(saved)
    assert infiller.infill(CompletionRequest("def f(", "):\n", max_tokens=4)).items


def test_a_base_in_8_bits_gives_a_checkpoint_that_loads(
    config: TrainConfig, tmp_path: Path
) -> None:
    """As the default is stored: what is trained from it has whole weights."""
    own, base = write_own_checkpoint(tmp_path / "own"), tmp_path / "int8"
    save_int8(load_model(own), base)
    shutil.copyfile(own / "tokenizer.json", base / "tokenizer.json")
    run = Run(replace(config, base=str(base)))
    run.train()
    saved = Path(config.out) / "checkpoint"
    after = load_model(saved).state_dict()
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, after[name].to(weight.dtype)), name


def test_the_bases_licence_and_provenance_go_with_the_weights(
    config: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """Also through training upon training; nothing else of the base's folder does."""
    names = {"LICENSE.base", "NOTICE.base.txt", "provenance.json"}
    licensed = tmp_path / "licensed"
    shutil.copytree(base, licensed)
    for name in names | {"README.md"}:
        (licensed / name).write_text(f"the base's {name}")
    model, folder = load_model(licensed, dtype=torch.bfloat16), licensed
    for out in (tmp_path / "first", tmp_path / "second"):
        save_finetuned(model, folder, out, {})
        assert {name: (out / name).read_text() for name in names} == {
            name: f"the base's {name}" for name in names
        }
        assert not (out / "README.md").exists()
        folder = out


def test_the_base_is_not_modified(config: TrainConfig, base: Path) -> None:
    before = {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    Run(config).train()
    assert before == {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}


def test_only_the_lora_is_trained(config: TrainConfig, base: Path) -> None:
    run = Run(lora(config))
    frozen = {n: p.clone() for n, p in run.model.named_parameters() if not p.requires_grad}
    run.train()
    assert all(torch.equal(run.model.get_parameter(name), value) for name, value in frozen.items())
    updates = [module for module in run.model.modules() if isinstance(module, LoraLinear)]
    assert len(updates) == 2 * 7
    assert all(update.lora_B.abs().sum() > 0 for update in updates)
    held = {p for o in run.optimizers for group in o.param_groups for p in group["params"]}
    assert held == {p for update in updates for p in (update.lora_A, update.lora_B)}


def test_an_untrained_lora_changes_nothing(config: TrainConfig, base: Path) -> None:
    run = Run(lora(config))
    plain = load_model(base, dtype=torch.bfloat16).state_dict()
    merged = merged_state(run.model)
    assert merged.keys() == plain.keys()
    assert all(torch.equal(merged[name], plain[name]) for name in plain)


def test_an_adapter_has_pefts_layout_and_merges(
    config: TrainConfig, base: Path, tmp_path: Path
) -> None:
    run = Run(lora(config))
    run.train()
    adapter = Path(config.out) / "checkpoint"
    described = json.loads((adapter / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"]) == (4, 8)
    tensors = load_file(adapter / "adapter_model.safetensors")
    first = "base_model.model.encoder.layers.0.self_attn.q_proj.lora_"
    down, up = tensors[f"{first}A.weight"], tensors[f"{first}B.weight"]
    assert (down.shape, up.shape) == ((4, 24), (32, 4))

    out = tmp_path / "merged"
    given = ["--base", str(base), "--adapter", str(adapter), "--out", str(out)]
    assert merge_lora.main(given) == 0
    stored = {name: t for file in weight_files(out) for name, t in load_file(file).items()}
    original = {name: t for file in weight_files(base) for name, t in load_file(file).items()}
    name = "encoder.layers.0.self_attn.q_proj.weight"
    wanted = (original[name].bfloat16().float() + up @ down * 2).bfloat16()
    assert torch.equal(stored[name], wanted)
    assert stored.keys() == original.keys()
    assert Infiller.load(out).infill(CompletionRequest("x = ", "\n", max_tokens=4)).items


def test_a_resumed_lora_run_ends_as_an_uninterrupted_one(
    config: TrainConfig, tmp_path: Path
) -> None:
    from dataclasses import replace

    whole = Run(lora(config))
    whole.train()
    parts = replace(lora(config), out=str(tmp_path / "parts"), validate_every=9)

    class Interrupted(Run):
        def _update(self, batch: Any) -> Any:
            if self.step == 2:
                raise KeyboardInterrupt
            return super()._update(batch)

    with pytest.raises(KeyboardInterrupt):
        Interrupted(parts).train()
    resumed = Run(parts)
    assert resumed.step == 2
    resumed.train()
    ours, theirs = (run.weights.tensors() for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("owner", [Trainee, train_module])
def test_a_run_that_is_killed_in_its_last_save_makes_it_again(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    """In either half of a save the checkpoint ends as the weights that the state restores."""
    name = "save" if owner is Trainee else "save_state"
    whole, saves = getattr(owner, name), []

    def killed(*given: Any) -> None:
        saves.append(1)
        if len(saves) == 2:
            raise Killed
        whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Killed):
            Run(lora(config)).train()
    resumed = Run(lora(config))
    resumed.train()
    assert resumed.step == config.steps
    stored = load_file(Path(config.out) / "checkpoint" / ADAPTER_FILE)
    for name, parameter in resumed.model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(stored[adapter_name(resumed.model.config, name)], parameter)


def test_an_adapters_weights_never_stand_without_their_config(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, write = Run(lora(config)), Path.write_text

    def killed(path: Path, *given: Any, **named: Any) -> int:
        if path.name == ADAPTER_CONFIG:
            raise Killed
        return write(path, *given, **named)

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(Killed):
        run.trainee.save(tmp_path / "saved", {})
    assert not (tmp_path / "saved" / ADAPTER_FILE).exists()


def test_an_adapter_of_another_model_is_refused(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(lora(config)).train()
    nld_checkpoint(tmp_path / "deep", num_hidden_layers=3)
    given = ["--base", str(tmp_path / "deep"), "--adapter", f"{config.out}/checkpoint"]
    assert merge_lora.main([*given, "--out", str(tmp_path / "out")]) == 2
    assert "an adapter of another model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rank", [0, 4])
def test_the_estimated_memory_equals_the_allocated_memory(config: TrainConfig, rank: int) -> None:
    """Weights, gradients and optimizer states; activations are not included."""
    run = Run(lora(config) if rank else config)
    run._update(next(run._batches("train", 0).steps(0, 1)))
    weights = {p.data_ptr(): p.nbytes for p in run.model.parameters()}
    weights |= {master.data_ptr(): master.nbytes for _, master in run.weights}
    memory = sum(
        value.nbytes
        for optimizer in run.optimizers
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, Tensor) and value.numel() > 1
    )
    gradients = sum(master.nbytes for _, master in run.weights)
    foretold = training_bytes(run.model.config, rank)
    assert foretold == sum(weights.values()) + gradients + memory


def test_a_causal_model_is_refused(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fim_training.trainer.train import main

    nld_checkpoint(tmp_path / "causal", model_type="ministral3", mask_token_id=None)
    path = tmp_path / "a.toml"
    path.write_text(
        f'corpus = "{config.corpus}"\nbase = "{tmp_path / "causal"}"\n'
        f'out = "{tmp_path / "out"}"\nsteps = 1\n'
    )
    assert main(["--config", str(path)]) == 2
    assert "a model without a mask token" in capsys.readouterr().err
    assert "peft" not in sys.modules


@pytest.mark.parametrize("write", [dream, llada, open_dcoder])
def test_a_model_that_reads_both_ways_at_once_is_refused(tmp_path: Path, write: Any) -> None:
    """It has a mask token, but was trained on no half of the joint loss."""
    write(tmp_path / "canvas")
    with pytest.raises(ConfigError, match="reads both ways at once"):
        check_trainable(tmp_path / "canvas")
