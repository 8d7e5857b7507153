"""Smoothing leaves the function alone; the shipping command measures, chooses and writes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fim_kernels.matmul_int8 import available
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model
from fim_model.loading.headers import read_quantization
from fim_model.network.attention_mask import Attention
from fim_model.network.cpu import PackedTransformer
from fim_model.network.transformer import TriModeTransformer
from fim_training.shipping.ship import Attempt, chosen, main, token_losses
from fim_training.shipping.smooth import activation_maxima, smooth
from tiny_checkpoint import write_tiny_checkpoint
from torch import Tensor


@torch.inference_mode()
def logits(model: TriModeTransformer) -> Tensor:
    return model.logits(model(torch.arange(2, 22)[None], torch.arange(20)[None], Attention.CAUSAL))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.65, 1.0])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("biased", [True, False])
def test_smoothing_keeps_the_logits(tiny: Any, alpha: float, groups: int, biased: bool) -> None:
    biases = dict.fromkeys(("query_bias", "output_bias", "mlp_bias"), biased)
    model = tiny.model(1, num_key_value_heads=groups, **biases)
    before, weights = logits(model), {n: p.clone() for n, p in model.named_parameters()}
    smooth(model, activation_maxima(model, [list(range(2, 22))]), alpha)
    assert (logits(model) - before).abs().max() < 1e-4 * before.abs().max()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, weights[n])}
    assert all("layers" in name for name in changed)
    assert len(changed) == model.config.num_hidden_layers * (9 + 2 * biased)


def test_smoothing_evens_out_activations(tiny: Any) -> None:
    """With an outlier column made on purpose; alpha 1 makes all columns alike."""
    model = tiny.model(1)
    model.model.layers[0].input_layernorm.weight[3] *= 100
    tokens = [list(range(2, 22))]
    before = activation_maxima(model, tokens)[0]
    smooth(model, [*activation_maxima(model, tokens)], 1.0)
    after = activation_maxima(model, tokens)[0]
    for name in ("qkv", "gate_up", "down"):
        old, new = getattr(before, name), getattr(after, name)
        assert new.max() / new.min() < 1.01 < old.max() / old.min()


def test_bad_smoothing_is_refused(tiny: Any) -> None:
    model = tiny.model()
    with pytest.raises(ValueError, match="no text"):
        activation_maxima(model, [])
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, not 2"):
        smooth(model, [], 2)


def test_the_fewest_levels_within_reach_are_chosen() -> None:
    found = [
        Attempt(0.5, 127, 0.0010, 0, 9_000_000), Attempt(0.5, 63, 0.0040, 0, 8_000_000),
        Attempt(0.7, 63, 0.0020, 0, 8_000_000), Attempt(0.7, 31, 0.0090, 0, 7_000_000),
    ]  # fmt: skip
    assert chosen(found, 0.0, 9) == found[0]
    assert chosen(found, 0.002, 9) == found[2]
    assert chosen(found, 0.1, 9) == found[3]
    assert chosen(found, 0.0, 8.5) == found[2]
    with pytest.raises(ValueError, match=r"the smallest takes 7.0 MB zipped: give fewer --levels"):
        chosen(found, 0.0, 6)


@pytest.mark.skipif(not available(), reason="losses are measured with this CPU's integer products")
def test_the_command_writes_a_checkpoint_that_completes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = write_tiny_checkpoint(tmp_path / "model"), tmp_path / "shipped"
    (model / "LICENSE").write_text("yours")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    text = Path(__file__).read_text()
    with gzip.open(corpus / "train.jsonl.gz", "wt") as split:
        split.writelines(json.dumps({"text": f"{i}\n{text}"}) + "\n" for i in range(400))
    asked = ["--model", str(model), "--corpus", str(corpus), "--out", str(out)]
    assert main([*asked, "--alpha", "0.5", "--levels", "127", "63", "--tolerated", "9"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| 0.5 |") == 2
    assert "Taken: alpha 0.5, 63 levels." in printed
    stored = read_quantization(out)
    assert stored is not None
    assert stored.levels == 63
    assert (out / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert (out / "LICENSE").read_text() == "yours"
    full, small = (logits(load_model(folder)) for folder in (model, out))
    assert 0 < (small - full).norm() / full.norm() < 0.1
    assert Infiller.load(out, device="cpu").model.config == load_model(model).config


def test_losses_are_of_keys_as_the_server_keeps_them(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 they differ from those in float32, and are what a server's cache gives."""
    network, tokens = PackedTransformer.of(tiny.model(1)), list(range(2, 22))
    monkeypatch.setattr(PackedTransformer, "cache_dtype", torch.float32)
    exact = token_losses(network, [tokens])
    monkeypatch.setattr(PackedTransformer, "cache_dtype", torch.bfloat16)
    found = token_losses(network, [tokens])
    cache = PromptCache(network, capacity=len(tokens))
    logits = torch.cat([cache.prefill(tokens[:end]).logits for end in range(1, len(tokens))])
    served = F.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none")
    assert (found - served).abs().max() < 1e-3
    assert (found - exact).abs().max() > 1e-3


def test_a_base_without_its_licence_is_not_shipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_checkpoint(tmp_path / "model")
    (model / "provenance.json").write_text('{"name": "some base", "licence": "apache-2.0"}')
    asked = ["--model", str(model), "--corpus", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the base's licence is missing; copy it there as LICENSE.base" in error
    (model / "LICENSE.base").write_text("Apache License 2.0")
    main(asked)
    assert "licence" not in capsys.readouterr().err


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny_checkpoint(tmp_path / "model")
    for asked, message in (
        (["--out", str(model)], "--out must be another folder"),
        (["--out", str(tmp_path / "o"), "--levels", "200"], "--levels must be from 1 to 127"),
        (["--out", str(tmp_path / "o")], "no "),
    ):
        assert main(["--model", str(model), "--corpus", str(tmp_path), *asked]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
