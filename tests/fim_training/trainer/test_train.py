"""The trainer: reproducible batches, resumed runs, and loadable checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.errors import ConfigError
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model
from fim_model.network.noisy_blocks import NoisyBlocks
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import CompletionRequest
from fim_training.corpus.pack import main as pack_corpus
from fim_training.examples.examples import ExampleStream
from fim_training.trainer import saved_state, trainee
from fim_training.trainer import train as train_module
from fim_training.trainer.batches import Batches, read_split
from fim_training.trainer.objective import Batch, ControlIds, Losses
from fim_training.trainer.optimizers import learning_rate_scale
from fim_training.trainer.saved_state import (
    LADDER,
    Progress,
    State,
    choose_precision,
    load_state,
    save_state,
)
from fim_training.trainer.throughput import measured_matrix_rate, step_flops
from fim_training.trainer.train import Run, main, pick_device
from fim_training.trainer.train_config import TrainConfig
from stand_in_gpu import stand_in_gpu
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def config(corpus: Path, tiny_tokenizer_file: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        corpus=str(corpus),
        tokenizer=str(tiny_tokenizer_file),
        out=str(tmp_path / "run"),
        steps=4,
        rows=2,
        length=64,
        noisy_blocks=2,
        block_size=4,
        hidden_size=16,
        layers=1,
        heads=2,
        kv_heads=1,
        head_dim=8,
        intermediate_size=24,
        warmup=2,
        threads=1,
        compile=False,
        save_every=2,
        validate_every=4,
    )


def equal(a: Batch, b: Batch) -> bool:
    names = ("tokens", "positions", "target", "ar_weight", "diffusion_weight", "noisy_limit")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def batches(tiny: Any, tokenizer: CodeTokenizer, config: TrainConfig) -> Batches:
    stream = ExampleStream(tiny.files, tokenizer)
    control = ControlIds.own(tokenizer.special)
    return Batches(stream, control, config.noise(), config.rows, config.length, seed=0)


def test_a_batch_depends_only_on_seed_and_step(
    tiny: Any, tiny_tokenizer: CodeTokenizer, config: TrainConfig
) -> None:
    drawn = batches(tiny, tiny_tokenizer, config)
    whole = list(drawn.steps(0, 4))
    rest = list(drawn.steps(2, 4))
    assert len(whole) == 4
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
    assert not equal(whole[0], whole[1])
    assert not equal(whole[0], next(replace(drawn, seed=1).steps(0, 1)))
    assert whole[0].tokens.shape == (2, 64 + 2 * 4)


def test_worker_processes_draw_the_same_batches_as_a_thread(
    tiny: Any, tiny_tokenizer: CodeTokenizer, config: TrainConfig
) -> None:
    drawn = batches(tiny, tiny_tokenizer, config)
    pairs = zip(drawn.steps(3, 8, workers=2), drawn.steps(3, 8), strict=True)
    assert all(equal(a, b) for a, b in pairs)


def test_the_learning_rate_warms_up_stays_constant_and_decays(config: TrainConfig) -> None:
    config = replace(config, steps=100, warmup=10, cooldown=0.4)
    scale = [learning_rate_scale(step, 1 - step / 100, config) for step in range(100)]
    assert scale[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(scale[10:60]) == {1.0}
    assert scale[60:] == pytest.approx([(100 - step) / 40 for step in range(60, 100)])


class Interrupted(Exception):
    pass


class BreaksOff(Run):
    """A run that is killed after its third step, with a save at the second."""

    def _update(self, batch: Batch) -> Losses:
        if self.step == 3:
            raise Interrupted
        return super()._update(batch)


def test_a_resumed_run_ends_as_an_uninterrupted_one(config: TrainConfig, tmp_path: Path) -> None:
    """The batches, weights and optimizer states are bit-identical."""
    with pytest.raises(Interrupted):
        BreaksOff(config).train()
    resumed = Run(config)
    assert resumed.step == 2
    resumed.train()

    whole = Run(replace(config, out=str(tmp_path / "whole")))
    whole.train()
    assert (resumed.step, resumed.tokens) == (whole.step, whole.tokens)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for first, other in zip(resumed.optimizers, whole.optimizers, strict=True):
        states = zip(first.state.values(), other.state.values(), strict=True)
        assert all(torch.equal(a[name], b[name]) for a, b in states for name in b)

    start = Run(replace(config, out=str(tmp_path / "new"))).model.state_dict()
    assert any(not torch.equal(start[name], theirs[name]) for name in theirs)


def test_a_run_writes_a_log_and_a_checkpoint(config: TrainConfig) -> None:
    run = Run(config)
    run.train()
    folder = Path(config.out)
    assert json.loads((folder / "config.json").read_text()) == asdict(config)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4
    assert {"tokens", "seconds", "held_out_ar", "held_out_diffusion"} <= rows[-1].keys()
    assert not list(folder.rglob("*.unfinished"))

    loaded = load_model(folder / "checkpoint")
    ours = run.model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, ours[name].bfloat16().float())
    assert loaded.config.max_position_embeddings == config.length  # what it was trained on
    assert loaded.config.mask_token_id == run.tokenizer.special.mask
    infiller = Infiller.load(folder / "checkpoint")
    assert infiller.infill(CompletionRequest("def f(", "):\n", max_tokens=4)).items


def test_without_noisy_blocks_only_the_ar_loss_is_trained(config: TrainConfig) -> None:
    run = Run(replace(config, noisy_blocks=0))
    run.train()
    log = Path(run.config.out, "log.jsonl").read_text().splitlines()
    last = json.loads(log[-1])
    assert last["held_out_ar"] > 0
    assert last["held_out_diffusion"] == 0
    infiller = Infiller.load(Path(run.config.out) / "checkpoint")
    assert "ar" in infiller.modes
    assert not {"diffusion", "self_speculation"} & set(infiller.modes)


def test_a_finished_run_is_unchanged(config: TrainConfig) -> None:
    Run(config).train()
    again = Run(config)
    before = {name: tensor.clone() for name, tensor in again.model.state_dict().items()}
    again.train()
    assert again.step == 4
    after = again.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_every_parameter_has_one_optimizer(config: TrainConfig) -> None:
    run = Run(config)
    held = [p for o in run.optimizers for group in o.param_groups for p in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held})
    assert {id(p) for p in held} == {id(p) for p in run.model.parameters()}
    matrices = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert id(run.model.model.embed_tokens.weight) not in matrices
    assert id(run.model.model.layers[0].get_parameter("self_attn.q_proj.weight")) in matrices


# Invalid input.


def toml(path: Path, **values: Any) -> Path:
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return path


def test_a_config_file_is_read(config: TrainConfig, tmp_path: Path) -> None:
    assert TrainConfig.read(toml(tmp_path / "a.toml", **asdict(config))) == config


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stepz": 4}, "unknown key 'stepz'; known are"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"length": 32}, "length must be at least 64, not 32"),
        ({"warmup": 0}, "warmup must be at least 1, not 0"),
        ({"cooldown": 0.0}, "cooldown must be a share of the run, not 0.0"),
        ({"minutes": -1}, "minutes must not be negative"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, not 'tpu'"),
        ({"tokenizer": ""}, "give a tokenizer, to train from nothing, or else a base"),
        ({"lora_rank": 4}, "lora_rank is for a base checkpoint"),
        ({"tokenizer": "", "base": "nowhere"}, "nowhere: there is no such checkpoint folder"),
        ({"rows": "many"}, "a.toml: "),
        ({"corpus": "nowhere"}, "no nowhere/train.jsonl.gz; build it with python -m"),
        ({"tokenizer": "nowhere.json"}, "no tokenizer at nowhere.json"),
        ({"heads": 3, "kv_heads": 2}, "num_attention_heads 3 is not a multiple of"),
    ],
)
def test_invalid_configs_exit_with_one_line_and_code_2(
    config: TrainConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    says: str,
) -> None:
    path = toml(tmp_path / "a.toml", **(asdict(config) | changes))
    assert main(["--config", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert says in lines[0]


def test_a_config_that_is_not_toml_or_lacks_a_key(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with pytest.raises(ConfigError, match=r"a\.toml: cannot be read as TOML"):
        TrainConfig.read(path)
    path.write_text("steps = ")
    with pytest.raises(ConfigError, match=r"a\.toml: cannot be read as TOML"):
        TrainConfig.read(path)
    with pytest.raises(ConfigError, match=r"a\.toml: .*missing .*'corpus'"):
        TrainConfig.read(toml(path, steps=4))


def test_a_folder_with_a_run_of_another_shape(config: TrainConfig) -> None:
    Run(replace(config, steps=2)).train()
    with pytest.raises(ConfigError, match="state is of a model of another shape; change"):
        Run(replace(config, hidden_size=32))


def test_a_corpus_split_is_read(corpus: Path, tiny: Any, tmp_path: Path) -> None:
    wanted = [replace(file, project="shapes") for file in tiny.files]
    assert read_split(corpus, "train") == wanted
    shutil.copyfile(corpus / "train.jsonl.gz", tmp_path / "other.jsonl.gz")
    with pytest.raises(ConfigError, match=r"no .*train\.jsonl\.gz; build it"):
        read_split(tmp_path, "train")


def test_a_packed_corpus_equals_the_corpus(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--corpus", str(corpus), "--out", str(tmp_path / "packed")]
    assert pack_corpus(given) == 0
    for split in ("train", "heldout"):
        unpacked = read_split(tmp_path / "packed", split)
        assert sorted(unpacked, key=str) == sorted(read_split(corpus, split), key=str)
    assert pack_corpus([*given, "--most-mb", "0.0006"]) == 0
    assert "left out" in capsys.readouterr().err
    assert sum(path.stat().st_size for path in (tmp_path / "packed").iterdir()) <= 600
    assert 0 < len(read_split(tmp_path / "packed", "train")) < len(read_split(corpus, "train"))
    assert pack_corpus(["--corpus", str(tmp_path / "gone"), "--out", str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err


# State.


def test_the_most_complete_state_that_fits_is_saved() -> None:
    sizes = [1000 * (dtype.itemsize + (other.itemsize if other else 0)) for dtype, other in LADDER]
    assert [choose_precision(1000, 1000, size) for size in sizes] == list(LADDER)
    assert choose_precision(1000, 1000, 0) == LADDER[0]
    with pytest.raises(ConfigError, match=r"state_mb is 0, but 1000 weights .*raise it"):
        choose_precision(1000, 1000, 1999)


def test_a_state_is_saved_in_small_files_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_state, "FILE_BYTES", 24_000)
    monkeypatch.setattr(saved_state, "HEADER_ROOM", 2_000)
    weights = {"a": torch.randn(70, 100), "b": torch.randn(3), "none": torch.zeros(0, 4)}
    memory = {"0/0/momentum": torch.randn(70, 100), "0/0/step": torch.tensor(1003.0)}
    save_state(tmp_path, State(Progress(5, 6, 7.5), weights, memory), 0)
    files = list((tmp_path / "state").glob("*.safetensors"))
    assert len(files) == 3
    assert max(file.stat().st_size for file in files) <= 24_000
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded.memory is not None
    assert loaded.progress == Progress(5, 6, 7.5)
    for given, found in ((weights, loaded.weights), (memory, loaded.memory)):
        assert given.keys() == found.keys()
        assert all(torch.equal(given[name], found[name]) for name in given)

    # Half the space: bf16, but the step count stays exact; then no optimizer state at all.
    save_state(tmp_path, State(Progress(), weights, memory), 29_000)
    halved = load_state(tmp_path)
    assert halved is not None
    assert halved.memory is not None
    assert torch.equal(halved.weights["a"], weights["a"].bfloat16().float())
    assert halved.memory["0/0/step"] == 1003
    save_state(tmp_path, State(Progress(), weights, memory), 15_000)
    least = load_state(tmp_path)
    assert least is not None
    assert least.memory is None

    next((tmp_path / "state").glob("*.safetensors")).write_bytes(b"torn")
    with pytest.raises(ConfigError, match="state is not a whole state"):
        load_state(tmp_path)


def test_a_checkpoint_is_saved_in_small_files_and_loads(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 64 * 1024 + 12_000  # space for a header and the largest tensor
    folder = Path(config.out) / "checkpoint"
    run = Run(config)
    run.save()
    assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]
    single = load_model(folder).state_dict()
    monkeypatch.setattr(trainee, "FILE_BYTES", most)
    run.save()
    files = list(folder.glob("*.safetensors"))
    assert len(files) > 1
    assert max(file.stat().st_size for file in files) <= most
    sharded = load_model(folder).state_dict()
    assert all(torch.equal(single[name], sharded[name]) for name in single)
    monkeypatch.undo()
    run.save()
    assert [path.name for path in folder.glob("model*")] == ["model.safetensors"]


def test_a_crash_during_a_save_keeps_the_previous_one(tmp_path: Path) -> None:
    save_state(tmp_path, State(Progress(1), {"a": torch.ones(2)}, None), 0)
    (tmp_path / "state").rename(tmp_path / "state.old")
    found = load_state(tmp_path)
    assert found is not None
    assert found.progress.step == 1


@pytest.mark.parametrize("crash_at", ["write", "first rename", "second rename"])
def test_a_second_crash_keeps_the_previous_state_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    """Of a run that resumed from the state that a first crash had left under its other name."""
    save_state(tmp_path, State(Progress(1), {"a": torch.ones(2)}, None), 0)
    (tmp_path / "state").rename(tmp_path / "state.old")
    rename = Path.rename

    def crash(*anything: Any) -> None:
        raise KeyboardInterrupt

    def crash_of(path: Path, target: Path) -> Path:
        if path.name == {"first rename": "state", "second rename": "state.unfinished"}[crash_at]:
            crash()
        return rename(path, target)

    later = State(Progress(2), {"a": torch.zeros(2)}, None)
    with monkeypatch.context() as patched:
        if crash_at == "write":
            patched.setattr(saved_state, "save_file", crash)
        else:
            patched.setattr(Path, "rename", crash_of)
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path, later, 0)
    found = load_state(tmp_path)
    assert found is not None
    assert (found.progress.step, found.weights["a"].tolist()) == (1, [1.0, 1.0])
    save_state(tmp_path, State(Progress(3), {"a": torch.zeros(2)}, None), 0)
    after = load_state(tmp_path)
    assert after is not None
    assert after.progress.step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_run_without_optimizer_states_resumes(config: TrainConfig) -> None:
    """With only bf16 weights saved, it resumes with a new learning rate warm-up."""
    Run(replace(config, steps=2)).train()
    folder = Path(config.out)
    state = load_state(folder)
    assert state is not None
    save_state(folder, State(state.progress, state.weights, None), 0)
    resumed = Run(config)
    assert resumed.step == resumed.remembered_from == 2
    assert not any(optimizer.state for optimizer in resumed.optimizers)
    rates: list[float] = []
    update = resumed._update

    def recorded(batch: Batch) -> Losses:
        losses = update(batch)
        rates.append(resumed.optimizers[0].param_groups[0]["lr"] / config.matrix_lr)
        return losses

    resumed._update = recorded  # type: ignore[method-assign]
    resumed.train()
    assert resumed.step == 4
    assert rates[0] == pytest.approx(1 / config.warmup)


def test_a_run_saved_in_the_old_single_file_format_resumes(config: TrainConfig) -> None:
    first = Run(replace(config, steps=2))
    first.train()
    folder = Path(config.out)
    shutil.rmtree(folder / "state")
    old = {
        "model": first.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in first.optimizers],
        "progress": (2, 55, 1.5),
    }
    torch.save(old, folder / "state.pt")
    resumed = Run(config)
    assert (resumed.step, resumed.tokens, resumed.seconds) == (2, 55, 1.5)
    states = zip(
        first.optimizers[0].state.values(), resumed.optimizers[0].state.values(), strict=True
    )
    for first, other in states:
        assert torch.equal(first["momentum_buffer"], other["momentum_buffer"])


# Time.


class Clock:
    """A clock that advances ten seconds on every call."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 10
        return self.now


def test_a_run_ends_at_its_time_limit(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cooldown fits the minutes, including those before resuming."""
    monkeypatch.setattr(train_module, "time", Clock())
    timed = replace(config, steps=0, minutes=5, warmup=1, cooldown=0.5)
    first = Run(timed, pause_after=2)
    first.train()
    assert 0.4 <= first.seconds / 300 < 0.7
    second = Run(timed)
    assert second.step == first.step
    second.train()
    assert 300 <= second.seconds < 340
    assert second.step > first.step
    assert second.optimizers[0].param_groups[0]["lr"] < 0.3 * config.matrix_lr
    assert first.optimizers[0].param_groups[0]["lr"] > 0.6 * config.matrix_lr


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="torch sees no GPU here"):
        pick_device("cuda")


def test_the_flops_of_a_step_equal_torchs_count(tiny: Any) -> None:
    """Counts matrix products outside of attention, forward and backward."""
    model = tiny.model(vocab_size=64).requires_grad_(True)
    tokens = torch.arange(48).view(2, 24)
    with FlopCounterMode(display=False) as counter:
        hidden = model(tokens, torch.arange(24).repeat(2, 1), NoisyBlocks(20, visible(2, 4, 24)))
        model.logits(hidden.flatten(0, 1)[:30]).sum().backward()
    attention = tiny.config(vocab_size=64, num_attention_heads=4)
    counted = counter.get_total_flops()
    whole = step_flops(attention, rows=2, clean=20, noisy=4, targets=30)
    assert whole == pytest.approx(counted, rel=0.15)
    assert measured_matrix_rate(torch.device("cpu"), size=64, rounds=2) > 0


def visible(rows: int, noisy: int, total: int) -> Tensor:
    return torch.ones(rows, 1, noisy, total, dtype=torch.bool)


def test_recomputing_activations_changes_nothing(config: TrainConfig, tmp_path: Path) -> None:
    kept = Run(replace(config, steps=2))
    kept.train()
    again = Run(replace(config, steps=2, recompute=True, out=str(tmp_path / "again")))
    again.train()
    ours, theirs = kept.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_on_a_gpu_equals_one_on_a_cpu(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the simulated GPU, which has no autocast, losses differ by bfloat16's rounding. The run
    also resumes from its own state.
    """
    monkeypatch.setattr(train_module, "measured_matrix_rate", lambda device: 1e12)
    monkeypatch.delenv("FIM_KERNELS", raising=False)
    found, forced = [], []
    with stand_in_gpu(monkeypatch):
        for device in ("cpu", "cuda"):
            out = tmp_path / device
            for steps in (2, 4):
                run = Run(
                    replace(config, device=device, out=str(out), steps=steps),
                    watch=lambda run: forced.append(os.environ.get("FIM_KERNELS")),
                )
                run.train()
                assert "FIM_KERNELS" not in os.environ, "what is measured next runs its kernels"
            assert run.model.device.type == device
            log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            found.append(log[-1])
    for loss in ("held_out_ar", "held_out_diffusion"):
        assert found[1][loss] == pytest.approx(found[0][loss], rel=5e-3)
    assert found[0]["step"] == found[1]["step"] == 4
    assert {*forced} == {"reference"}, "the kernels have no backward"
