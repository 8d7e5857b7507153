"""A network with an adapter against a plain model with the same updates merged into its weights."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from adapters import merged, random_matrices, write_adapter
from devices import STAND_IN, usable
from fim_model.decoding.adaptive import Drafting
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.loading.adapters import read_adapter
from fim_model.network import cpu_onnx
from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.batching import BatchedNetwork
from fim_model.network.contract import Network, forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.cuda import DeviceTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fixed_costs import FixedCosts
from torch import Tensor

Make = Callable[[TriModeTransformer], Network]
BIASES = {"query_bias": True, "output_bias": True, "mlp_bias": True}
WIDE = {
    "hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 2048,
}  # fmt: skip


def on_cuda(model: TriModeTransformer) -> Network:
    return DeviceTransformer.of(copy.deepcopy(model).to("cuda"))


KINDS = {
    "plain": (lambda model: model, "cpu"),
    "packed": (PackedTransformer.of, "cpu"),
    "batched": (lambda model: BatchedNetwork(PackedTransformer.of(model)), "cpu"),
    "device": (DeviceTransformer.of, "cpu"),
    STAND_IN: (on_cuda, STAND_IN),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made, device = KINDS[request.param]
    with usable(device, monkeypatch):
        yield made  # type: ignore[misc]


def models(tiny: Any) -> list[TriModeTransformer]:
    yarn = tiny.yarn(original_max_position_embeddings=8)
    return [
        tiny.model(1),
        tiny.model(2, rope=yarn, num_key_value_heads=1, tie_word_embeddings=False),
        tiny.model(3, num_key_value_heads=4, **BIASES),
    ]


def with_adapter(
    network: Network, model: TriModeTransformer, seed: int, folder: Path, scale: float = 0.4
) -> tuple[TriModeTransformer, Adapter]:
    """The merged model, and the same updates read from a file and placed for the network."""
    matrices = random_matrices(model, seed, scale)
    write_adapter(folder, matrices, "base")
    return merged(model, matrices), network.placed(read_adapter(folder, model.config, "base"))


def fill(
    network: Network, adapter: Adapter | None, mode: str, prompt: list[int], tokens: int
) -> tuple[list[int], list[tuple[int, ...]]]:
    cache = PromptCache(network, capacity=200)
    cache.adapt(adapter)
    core = DecodingCore(network, cache.kv, StopRule(-1, tokens), Sampler(), prompt=prompt)
    core.commit_choice(cache.prefill(prompt).logits)
    options = ModeOptions(width_budget=20, drafting=Drafting(FixedCosts(further=0.1)))
    return core.tokens, [step.hole for step in MODES[mode](core, options)]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_writes_what_the_merged_model_writes(
    tiny: Any, make: Make, mode: str, tmp_path: Path
) -> None:
    rng, changed = Random(4), 0
    for seed, model in enumerate(models(tiny)):
        network = make(model)
        wanted, adapter = with_adapter(network, model, seed, tmp_path)
        prompt = [rng.randrange(2, 32) for _ in range(rng.randint(3, 30))]
        found = fill(network, adapter, mode, prompt, 12)
        assert found == fill(wanted, None, mode, prompt, 12)
        base = fill(network, None, mode, prompt, 12)
        assert base == fill(model, None, mode, prompt, 12), "the base is as it was"
        changed += found != base
    assert changed == 3, "an adapter that changes nothing proves nothing"


def test_an_adapter_of_zeros_changes_no_bit(tiny: Any, make: Make, tmp_path: Path) -> None:
    for seed, model in enumerate(models(tiny)):
        network = make(model)
        _, adapter = with_adapter(network, model, seed, tmp_path, scale=0.0)
        seen = []
        for chosen in (None, adapter):
            cache = PromptCache(network, capacity=40)
            cache.adapt(chosen)
            seen.append(cache.prefill([3, 4, 5, 6, 7]).logits)
        assert torch.equal(*seen)


def test_a_cached_prompt_is_read_again_with_another_adapter(
    tiny: Any, make: Make, tmp_path: Path
) -> None:
    model = tiny.model(1)
    network = make(model)
    wanted, first = with_adapter(network, model, 1, tmp_path)
    other, second = with_adapter(network, model, 2, tmp_path)
    cache, prompt = PromptCache(network, capacity=60), [3, 4, 5, 6, 7, 8, 9]
    for chosen, plain in ((first, wanted), (second, other), (None, model), (first, wanted)):
        cache.adapt(chosen)
        read = cache.prefill(prompt)
        assert (read.reused, read.computed) == (0, 7)
        again = cache.prefill([*prompt, 10])
        assert (again.reused, again.computed) == (7, 1)
        expected = PromptCache(plain, capacity=60).prefill([*prompt, 10]).logits
        torch.testing.assert_close(again.logits, expected, rtol=2e-4, atol=2e-4)


def test_recordings_with_an_earlier_adapter_are_dropped(tiny: Any, tmp_path: Path) -> None:
    """A cache is handed from one workspace to the next, and each reads its adapter anew."""
    model = tiny.model(1)
    network = DeviceTransformer.of(model)
    matrices = random_matrices(model, 1)
    write_adapter(tmp_path, matrices, "base")
    cache = KVCache(model.config, capacity=64)
    block = torch.tensor([[5, 6]])

    def run(adapter: Adapter | None) -> Tensor:
        cache.crop(0)
        cache.adapter = adapter
        places = torch.arange(2)[None]
        drafting = network.device_drafting
        part = Part(block, places, Attention.BLOCK, cache)
        drafting.begin(part, torch.tensor([True, True]), 0.5).run(1)
        return forward_one(network, block, places, Attention.CAUSAL, cache).clone()

    plain, found, freed = run(None), [], []
    for _ in range(4):
        adapter = network.placed(read_adapter(tmp_path, model.config, "base"))
        freed.append(weakref.ref(adapter.output[0].up))
        found.append(run(adapter))
        with torch.inference_mode():
            recorded = network.recorded(cache)
        assert (len(recorded.steps), len(recorded.drafts)) == (1, 1)
        assert recorded.adapter is adapter
    assert all(torch.equal(states, found[0]) for states in found)
    assert not torch.equal(found[0], plain)
    assert torch.equal(run(None), plain)
    del adapter, recorded
    gc.collect()
    assert [reference() for reference in freed] == [None] * 4


def test_parts_of_two_adapters_are_refused(tiny: Any, tmp_path: Path) -> None:
    model = tiny.model(1)
    for network in (model, PackedTransformer.of(model)):
        _, adapter = with_adapter(network, tiny.model(1), 1, tmp_path)
        parts = []
        for chosen in (None, adapter):
            cache = KVCache(network.config, capacity=8)
            cache.adapter = chosen
            tokens = torch.tensor([[3, 4]])
            parts.append(Part(tokens, torch.arange(2)[None], Attention.CAUSAL, cache))
        with pytest.raises(ValueError, match="caches of one adapter"):
            network.forward_parts(parts, None)


def integer_networks() -> list[Any]:
    onnx = pytest.mark.skipif(not cpu_onnx.available(), reason="no ONNX Runtime, or a slow CPU")
    return [
        pytest.param(PackedTransformer, id="int8"),
        pytest.param(cpu_onnx.OnnxTransformer, id="onnx", marks=onnx),
    ]


@pytest.mark.parametrize("kind", integer_networks())
def test_integers_with_an_adapter_are_as_near_to_the_merged_model_as_without(
    tiny: Any, kind: type[PackedTransformer], tmp_path: Path
) -> None:
    """The base's products are of quantised rows, the updates of the rows as they were: against the
    full model with and without the updates the error is one of rounding, and alike."""
    tokens, places = torch.arange(2, 26)[None], torch.arange(24)[None]
    for seed in range(3):
        model = tiny.model(seed, **WIDE)
        network = kind.of(tiny.model(seed, **WIDE), storage=torch.int8)
        wanted, adapter = with_adapter(network, model, seed, tmp_path)
        errors, states = [], []
        for plain, chosen in ((model, None), (wanted, adapter)):
            cache, own = (KVCache(model.config, capacity=40) for _ in range(2))
            cache.adapter = chosen
            found = forward_one(network, tokens, places, Attention.CAUSAL, cache)
            expected = forward_one(plain, tokens, places, Attention.CAUSAL, own)
            errors.append(float((found - expected).norm() / expected.norm()))
            states.append(expected)
        between = float((states[1] - states[0]).norm() / states[0].norm())
        assert between > 0.5, "the updates must matter"
        assert errors[1] < max(2 * errors[0], 0.1)
        assert errors[1] < between / 4


def rows(network: Network, adapter: Adapter, tokens: list[int], sizes: list[int]) -> Tensor:
    cache, found, at = KVCache(network.config, capacity=400), [], 0
    cache.adapter = adapter
    for size in sizes:
        new, places = torch.tensor([tokens[at : at + size]]), torch.arange(at, at + size)[None]
        found.append(forward_one(network, new, places, Attention.CAUSAL, cache)[0].clone())
        cache.advance(size)
        at += size
    return torch.cat(found)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(None, id="full"), *integer_networks()],
)
def test_rows_with_an_adapter_do_not_depend_on_their_neighbours(
    tiny: Any, kind: type[PackedTransformer] | None, tmp_path: Path
) -> None:
    """To the last bit: what a verification accepts is what decoding alone would write."""
    model = tiny.model(1, **WIDE)
    network = PackedTransformer.of(model) if kind is None else kind.of(model, storage=torch.int8)
    _, adapter = with_adapter(network, tiny.model(1, **WIDE), 1, tmp_path)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 32, (300,), generator=draw).tolist()
    whole = rows(network, adapter, tokens, [300])
    for sizes in ([1] * 20 + [280], [33, 65, 11, 43, 97, 51], [2, 3, 4, 5, 7, 9, 270]):
        assert torch.equal(rows(network, adapter, tokens, sizes), whole)
