"""8-bit weights on a CPU approximate the full ones, and verify drafts just as exactly."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import torch
from fim_kernels.matmul_int8 import available
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.errors import CheckpointError
from fim_model.infiller import Infiller
from fim_model.loading.memory import default_weights
from fim_model.network.attention_mask import Attention
from fim_model.network.choice import fast_network
from fim_model.network.contract import Network, forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.kv_cache import KVCache

NO_EOM = -1
FITS = {"hidden_size": 32, "intermediate_size": 48}
"""Depths that PyTorch's kernel takes: multiples of 16."""


def fill(network: Network, prompt: Sequence[int], mode: str, tokens: int) -> list[int]:
    cache = PromptCache(network, capacity=200)
    stop = StopRule(NO_EOM, tokens)
    core = DecodingCore(network, cache.kv, stop, Sampler(), block_size=8, prompt=prompt)
    core.commit_choice(cache.prefill(prompt).logits)
    list(MODES[mode](core, ModeOptions(width_budget=20)))
    return core.tokens


@pytest.mark.parametrize("integers", [True, False], ids=["integers", "8-bit weights alone"])
@pytest.mark.parametrize("shape", [FITS, {}], ids=["pytorch's kernel", "reference"])
def test_hidden_states_approximate_the_full_ones(
    tiny: Any, shape: dict[str, int], integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not integers:
        monkeypatch.setattr("fim_model.network.cpu.available", lambda: False)
    model = tiny.model(1, rope=tiny.yarn(original_max_position_embeddings=8), **shape)
    tokens, places = torch.arange(2, 22)[None], torch.arange(20)[None]
    states = []
    for storage in (None, torch.int8):
        network = PackedTransformer.of(model, storage=storage)
        cache = KVCache(model.config, capacity=32)
        states.append(forward_one(network, tokens, places, Attention.CAUSAL, cache)[0])
        assert states[-1].dtype == network.logits(states[-1]).dtype == torch.float32
    error = (states[1] - states[0]).norm() / states[0].norm()
    # Rounded activations cost as much again as rounded weights.
    assert 0 < error < (0.05 if integers else 0.03)


def test_verified_drafts_equal_ar(tiny: Any) -> None:
    """A token's product does not depend on its block; attention stays in float32."""
    rng = Random(0)
    for seed in range(4):
        network = PackedTransformer.of(tiny.model(seed, **FITS), storage=torch.int8)
        for _ in range(4):
            prompt = [rng.randrange(2, 32) for _ in range(rng.randint(1, 30))]
            wanted = fill(network, prompt, "ar", 14)
            for mode in ("self_speculation", "quadratic_speculation", "lookup"):
                assert fill(network, prompt, mode, 14) == wanted


def test_int8_is_asked_for(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIM_WEIGHTS", raising=False)
    assert default_weights() == "full"
    monkeypatch.setenv("FIM_WEIGHTS", "int8")
    assert default_weights() == "int8"
    monkeypatch.setenv("FIM_WEIGHTS", "int4")
    with pytest.raises(CheckpointError, match="FIM_WEIGHTS=int4 is unknown; use 'full' or 'int8'"):
        default_weights()
    monkeypatch.setattr("fim_model.network.cpu_onnx.available", lambda: False)
    network = fast_network(tiny.model(1, **FITS), "int8")
    assert isinstance(network, PackedTransformer)
    assert network.products == ("8-bit integers" if available() else "8-bit weights, bfloat16 rows")


def test_loading_fails_if_forced_kernels_cannot_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("FIM_KERNELS", "triton")
    with pytest.raises(CheckpointError, match="FIM_KERNELS=triton cannot run: the tensors are on"):
        Infiller.load(device="cpu")
