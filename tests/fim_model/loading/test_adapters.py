"""Adapters are read by name when a request asks, and used only with the model they are for."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import random_matrices, write_adapter
from fim_model.errors import CheckpointError
from fim_model.infiller import Infiller
from fim_model.loading.adapters import (
    MOST_LOADED,
    Adapters,
    base_digest,
    read_adapter,
)
from fim_model.loading.checkpoint import load_model
from fim_model.network.transformer import TriModeTransformer
from fim_model.requests import ADAPTER_CONFIG, ADAPTER_FILE, CompletionRequest, RewriteRequest
from tiny_checkpoint import write_tiny_checkpoint

ONE, TWO = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(checkpoint: Path) -> TriModeTransformer:
    return load_model(checkpoint)


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Path, model: TriModeTransformer) -> Path:
    base = base_digest(checkpoint)
    for seed, name in enumerate((ONE, TWO)):
        write_adapter(tmp_path / name, random_matrices(model, seed, 2.0), base)
    return tmp_path


def ask(infiller: Infiller, adapter: str, session: str = "") -> tuple[list[int], str]:
    request = CompletionRequest(
        "def area(", "", mode="ar", max_tokens=12, trace=True, adapter=adapter, session=session
    )
    completion = infiller.infill(request)
    [item] = completion.items
    assert completion.adapter in ("", adapter)
    return [round(1e6 * n) for n in item.nats], item.text


def test_a_request_is_answered_with_the_adapter_that_it_names(
    checkpoint: Path, folder: Path
) -> None:
    infiller = Infiller.load(checkpoint, adapters=folder)
    answers = {name: ask(infiller, name) for name in ("", ONE, TWO)}
    assert len({str(answer) for answer in answers.values()}) == 3
    for name in (ONE, "", TWO, ONE):  # one session: cached keys of another adapter must not be used
        assert ask(infiller, name, "document") == answers[name]
    assert ask(infiller, "0" * 16) == answers[""], "one that is not there changes nothing"


def test_an_answer_says_whether_the_adapter_was_used(
    checkpoint: Path, model: TriModeTransformer, folder: Path
) -> None:
    infiller = Infiller.load(checkpoint, adapters=folder)
    write_adapter(folder / TWO, random_matrices(model, 1), "another base")
    asked = [CompletionRequest("a", "", max_tokens=1, adapter=name) for name in ("", ONE, TWO)]
    assert [infiller.infill(request).adapter for request in asked] == ["", ONE, ""]
    assert infiller.adapter_problems == {
        TWO: f"{TWO}: trained for another model; run fim-server tune again"
    }
    (folder / TWO / ADAPTER_CONFIG).write_text("[")
    assert infiller.infill(asked[2]).adapter == ""
    assert str(folder) not in infiller.adapter_problems[TWO]


@pytest.mark.parametrize("way", ["rewrite", "refill"])
def test_regions_are_rewritten_with_the_adapter(checkpoint: Path, folder: Path, way: str) -> None:
    infiller = Infiller.load(checkpoint, adapters=folder)
    config = replace(infiller.model.config, fim_edits=way == "rewrite")
    infiller.model.config = config
    assert infiller.rewriter.way == way
    gains = []
    for name in ("", ONE, TWO, ""):
        request = RewriteRequest("a = 1\n", "b = a", "\n", drafts=("b = 2",), adapter=name)
        gains.append(infiller.rewrite(request).draft_gains)
    assert gains[0] == gains[3]
    assert len(set(gains)) == 3


def test_two_workspaces_at_once_do_not_mix(checkpoint: Path, folder: Path) -> None:
    alone = Infiller.load(checkpoint, adapters=folder)
    wanted = {name: ask(alone, name)[1] for name in ("", ONE, TWO)}
    assert len(set(wanted.values())) == 3
    shared = Infiller.load(checkpoint, adapters=folder, batched=True)
    names = ["", ONE, TWO] * 3
    start = threading.Barrier(len(names))

    def work(number: int) -> str:
        start.wait(60)
        return ask(shared, names[number], f"document {number}")[1]

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(work, range(len(names)))) == [wanted[name] for name in names]


def test_a_new_or_removed_adapter_counts_from_the_next_request(
    checkpoint: Path, folder: Path, model: TriModeTransformer
) -> None:
    infiller = Infiller.load(checkpoint, adapters=folder)
    base, before = ask(infiller, "", "s"), ask(infiller, ONE, "s")
    shutil.rmtree(folder / ONE)
    assert ask(infiller, ONE, "s") == base
    write_adapter(folder / ONE, random_matrices(model, 9, 2.0), base_digest(checkpoint))
    assert ask(infiller, ONE, "s") not in (base, before)


def test_the_base_is_in_memory_once(model: TriModeTransformer, folder: Path) -> None:
    base = base_digest(folder)
    for name in (ONE, TWO):
        write_adapter(folder / name, random_matrices(model, 1), base)
    adapters = Adapters(folder, model, base)
    size = sum(weight.nbytes for weight in model.parameters())
    for name in (ONE, TWO):
        adapter = adapters(name)
        assert adapter is not None
        assert adapter is adapters(name), "read once"
        assert adapter.nbytes < size
    assert MOST_LOADED >= 2


def test_an_adapter_of_another_model_is_not_used(model: TriModeTransformer, folder: Path) -> None:
    adapters = Adapters(folder, model, "another base")
    assert adapters(ONE) is None
    assert "trained for another model" in adapters.problems[ONE]
    shutil.rmtree(folder / ONE)
    assert adapters(ONE) is None
    assert not adapters.problems


def test_files_that_do_not_fit_are_refused(
    tiny: Any, checkpoint: Path, model: TriModeTransformer, folder: Path
) -> None:
    base = base_digest(checkpoint)
    with pytest.raises(CheckpointError, match="has shape"):
        read_adapter(folder / ONE, tiny.config(hidden_size=32), base)
    some = dict(list(random_matrices(model, 0).items())[1:])
    with pytest.raises(CheckpointError, match="another model"):
        read_adapter(write_adapter(folder / "less", some, base), model.config, base)
    other = {"model.layers.0.mlp.up_proj": (torch.zeros(3, 24), torch.zeros(40, 3))}
    with pytest.raises(CheckpointError, match="no update of"):
        read_adapter(write_adapter(folder / "other", other, base), model.config, base)
    (folder / ONE / ADAPTER_FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        read_adapter(folder / ONE, model.config, base)


@pytest.mark.parametrize(
    "config",
    [
        b'{"r": 3, "lora_alpha": NaN}',
        b'{"r": 3, "lora_alpha": 1e400}',
        b'{"r": 3, "lora_alpha": 1' + b"0" * 400 + b"}",
        b'{"r": 3, "lora_alpha": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=["NaN", "infinite", "large", "larger than Python reads", "deep"],
)
def test_a_broken_config_is_refused(model: TriModeTransformer, folder: Path, config: bytes) -> None:
    (folder / ONE / ADAPTER_CONFIG).write_bytes(config)
    with pytest.raises(CheckpointError):
        read_adapter(folder / ONE, model.config, "")
    assert Adapters(folder, model, "")(ONE) is None


def test_an_adapter_that_is_not_finite_is_not_used(
    checkpoint: Path, model: TriModeTransformer, folder: Path
) -> None:
    matrices = random_matrices(model, 0, 2.0)
    last = sorted(matrices)[-1]
    matrices[last][1][0, 0] = torch.nan
    base = base_digest(checkpoint)
    write_adapter(folder / ONE, matrices, base)
    adapters = Adapters(folder, model, base)
    assert adapters(ONE) is None
    assert "not all finite" in adapters.problems[ONE]
    assert adapters(TWO) is not None


@pytest.mark.parametrize("name", ["../secrets", "0123456789ABCDEF", "0123", "0" * 17])
def test_a_name_is_sixteen_digits(name: str) -> None:
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        CompletionRequest("", "", adapter=name)
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        RewriteRequest("", "", "", adapter=name)


def test_the_digest_tells_weights_apart(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    shutil.copytree(checkpoint, other)
    assert base_digest(other) == base_digest(checkpoint)
    [path] = other.glob("*.safetensors")
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)
    assert base_digest(other) != base_digest(checkpoint)
