"""The trainer: batches by step, runs that go on where they stopped, checkpoints that load."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.checkpoint import load_model
from fim_model.config import ConfigError
from fim_model.infill import Infiller, InfillRequest
from fim_model.tokenizer import CodeTokenizer
from fim_model.training.examples import ExampleStream
from fim_model.training.objective import Batch, Losses
from fim_model.training.train import (
    Run,
    TrainConfig,
    batches,
    learning_rate_scale,
    main,
    read_split,
)


@pytest.fixture(scope="module")
def corpus(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for split in ("train", "heldout"):
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
            for file in tiny.files:
                row = {"project": "shapes", "path": file.path, "text": file.text}
                lines.write(json.dumps(row) + "\n")
    return folder


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


def test_a_batch_depends_on_seed_and_step_alone(
    tiny: Any, tiny_tokenizer: CodeTokenizer, config: TrainConfig
) -> None:
    stream = ExampleStream(tiny.files, tiny_tokenizer)
    whole = list(batches(stream, config, 0, 4, seed=0))
    rest = list(batches(stream, config, 2, 4, seed=0))
    assert len(whole) == 4
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
    assert not equal(whole[0], whole[1])
    assert not equal(whole[0], next(batches(stream, config, 0, 1, seed=1)))
    assert whole[0].tokens.shape == (2, 64 + 2 * 4)


def test_the_learning_rate_warms_up_holds_and_falls(config: TrainConfig) -> None:
    config = replace(config, steps=100, warmup=10, cooldown=0.4)
    scale = [learning_rate_scale(step, config) for step in range(100)]
    assert scale[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(scale[10:60]) == {1.0}
    assert scale[60:] == pytest.approx([(100 - step) / 40 for step in range(60, 100)])


class Interrupted(Exception):
    pass


class BreaksOff(Run):
    """A run that is killed after its third step; it saved at the second."""

    def _update(self, batch: Batch) -> Losses:
        if self.step == 3:
            raise Interrupted
        return super()._update(batch)


def test_a_run_that_was_broken_off_ends_as_if_it_had_not_been(
    config: TrainConfig, tmp_path: Path
) -> None:
    """The same batches, weights and optimizer states, bit for bit."""
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
    for one, other in zip(resumed.optimizers, whole.optimizers, strict=True):
        states = zip(one.state.values(), other.state.values(), strict=True)
        assert all(torch.equal(a[name], b[name]) for a, b in states for name in b)

    start = Run(replace(config, out=str(tmp_path / "new"))).model.state_dict()
    assert any(not torch.equal(start[name], theirs[name]) for name in theirs)


def test_a_run_leaves_a_log_and_a_checkpoint(config: TrainConfig) -> None:
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
    assert loaded.config.max_position_embeddings == config.length  # what it has been trained on
    assert loaded.config.mask_token_id == run.tokenizer.special.mask
    infiller = Infiller.load(folder / "checkpoint")
    assert infiller.infill(InfillRequest("def f(", "):\n", max_tokens=4)).items


def test_a_finished_run_stays_as_it_is(config: TrainConfig) -> None:
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


# Bad input.


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
        ({"cooldown": 0.0}, "cooldown must be a share of the steps, not 0.0"),
        ({"rows": "many"}, "a.toml: "),
        ({"corpus": "nowhere"}, "no nowhere/train.jsonl.gz; build it with python -m"),
        ({"tokenizer": "nowhere.json"}, "no tokenizer at nowhere.json"),
        ({"heads": 3, "kv_heads": 2}, "num_attention_heads 3 is not a multiple of"),
    ],
)
def test_bad_configs_end_with_one_line_and_code_2(
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


def test_a_config_that_is_no_toml_or_lacks_a_key(tmp_path: Path) -> None:
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
    with pytest.raises(ConfigError, match=r"state\.pt is of a model of another shape; change"):
        Run(replace(config, hidden_size=32))


def test_a_corpus_split_is_read(corpus: Path, tiny: Any, tmp_path: Path) -> None:
    wanted = [replace(file, project="shapes") for file in tiny.files]
    assert read_split(corpus / "train.jsonl.gz") == wanted
    shutil.copyfile(corpus / "train.jsonl.gz", tmp_path / "other.jsonl.gz")
    with pytest.raises(ConfigError, match=r"no .*train\.jsonl\.gz; build it"):
        read_split(tmp_path / "train.jsonl.gz")
