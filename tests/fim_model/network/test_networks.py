"""The fast networks against the plain one: equal hidden states, and equal tokens in every mode.

On a CPU, steps that become graphs use the same buffers without recording; on the simulated GPU they
are recorded and replayed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
import torch
from devices import ON_GPU, STAND_IN, usable
from fim_kernels.matmul_packed import pack
from fim_model.decoding.adaptive import Drafting
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.native import RightContext, native_infill, probe_lengths
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.quadratic import row_pattern, row_positions
from fim_model.decoding.sampling import Sampler
from fim_model.network.attention_mask import Attention, AttentionPattern
from fim_model.network.batch_parts import Part
from fim_model.network.choice import fast_network
from fim_model.network.contract import Network, forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.cuda import DeviceTransformer, RecordedForward
from fim_model.network.fused_forward import FusedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import TriModeTransformer
from fixed_costs import FixedCosts
from torch import Tensor


def on_cuda(model: TriModeTransformer) -> Network:
    """A copy of the model on CUDA; the model itself is not moved."""
    moved = copy.deepcopy(model).to("cuda")
    moved.draft_lora = on(torch.device("cuda"), model.draft_lora)
    return DeviceTransformer.of(moved)


def on(device: torch.device, lora: DraftLora | None) -> DraftLora | None:
    if lora is None:
        return None
    down, up = (tuple(matrix.to(device) for matrix in side) for side in (lora.down, lora.up))
    return DraftLora(down, up, lora.scale)


Make = Callable[[TriModeTransformer], Network]
KINDS = [
    pytest.param((PackedTransformer.of, "cpu"), id="packed"),
    pytest.param((DeviceTransformer.of, "cpu"), id="device"),
    pytest.param((on_cuda, STAND_IN), id=STAND_IN),
    pytest.param((on_cuda, "cuda"), id="cuda", marks=ON_GPU),
]
BIASES = {"query_bias": True, "output_bias": True, "mlp_bias": True}
NO_EOM = -1


@pytest.fixture(params=KINDS)
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    make, device = request.param
    with usable(device, monkeypatch):
        yield make


def models(tiny: Any) -> list[TriModeTransformer]:
    """Models with and without grouped heads, tied embeddings, an effective query scale and
    biases.
    """
    yarn = tiny.yarn(original_max_position_embeddings=8)
    return [
        tiny.model(1),
        tiny.model(2, rope=yarn, num_key_value_heads=1, tie_word_embeddings=False),
        tiny.model(3, num_key_value_heads=4, **BIASES),
    ]


def lora_for(model: TriModeTransformer, seed: int = 0) -> DraftLora:
    config, draw = model.config, torch.Generator().manual_seed(seed)
    inner = config.num_attention_heads * config.head_dim
    layers = range(config.num_hidden_layers)
    down = tuple(torch.randn(2, inner, generator=draw) for _ in layers)
    up = tuple(torch.randn(config.hidden_size, 2, generator=draw) for _ in layers)
    return DraftLora(down, up, 0.5)


def some_tokens(rng: Random, count: int) -> Tensor:
    return torch.tensor([[rng.randrange(2, 32) for _ in range(count)]])


@torch.inference_mode()
def read(network: Network, cache: KVCache, tokens: Tensor) -> None:
    places = torch.arange(tokens.shape[1])[None]
    device = network.device
    forward_one(network, tokens.to(device), places.to(device), Attention.CAUSAL, cache)
    cache.advance(tokens.shape[1])


def forwards(start: int, lora: DraftLora) -> list[tuple[int, AttentionPattern, Tensor, Any]]:
    """All forwards that decoding uses: width, attention, positions after `start`, LoRA."""

    def follow(width: int) -> Tensor:
        return torch.arange(start, start + width)

    split = torch.tensor([0, 1, 2, 6, 7]) + start
    return [
        (1, Attention.CAUSAL, follow(1), None),
        (5, Attention.CAUSAL, follow(5), None),
        (4, Attention.BLOCK, follow(4), None),
        (4, Attention.BLOCK, follow(4), lora),
        (4, Attention.BLOCK, follow(4), None),
        (5, Attention.BLOCK, split, None),
        (9, row_pattern(3, 2), row_positions(start, 3, 2), None),
        (6, row_pattern(2, 2), row_positions(start, 2, 2), lora),
    ]


def test_every_kind_of_forward_equals_the_plain_one(tiny: Any, fast: Make) -> None:
    """Each runs three times, because a recorded step must also serve other tokens and lengths."""
    rng = Random(0)
    for model in models(tiny):
        network, lora = fast(model), lora_for(model)
        loras = {net: on(net.device, lora) for net in (model, network)}
        caches = [KVCache(model.config, capacity=64, device=net.device) for net in (model, network)]
        prompt = some_tokens(rng, 7)
        for net, cache in zip((model, network), caches, strict=True):
            read(net, cache, prompt)
        for _ in range(3):
            for width, attention, positions, adapter in forwards(caches[0].length, lora):
                tokens = some_tokens(rng, width)
                wanted, found = (
                    forward_one(
                        net, tokens, positions[None], attention, cache, adapter and loras[net]
                    )
                    for net, cache in zip((model, network), caches, strict=True)
                )
                torch.testing.assert_close(found.cpu(), wanted, rtol=2e-5, atol=2e-5)
                scores, logits = network.scores(found[0]), model.logits(wanted[0])
                assert scores.token.tolist() == logits.argmax(-1).tolist()
                ours = network.logits(found[0]).cpu()
                torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
            for cache in caches:
                cache.advance(2)


def fill(network: Network, prompt: Sequence[int], mode: str, tokens: int, heat: float) -> Any:
    cache = PromptCache(network, capacity=200)
    core = DecodingCore(
        network, cache.kv, StopRule(NO_EOM, tokens), Sampler(heat, seed=1), prompt=prompt
    )
    core.commit_choice(cache.prefill(prompt).logits)
    options = ModeOptions(width_budget=20, drafting=Drafting(FixedCosts(further=0.1)))
    steps = list(MODES[mode](core, options))
    return core.tokens, core.forwards, [(step.hole, step.committed) for step in steps]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_writes_the_same_tokens(tiny: Any, fast: Make, mode: str) -> None:
    """Every step is compared, greedy and sampled, with the draft LoRA if the model has one."""
    rng = Random(1)
    for seed, model in enumerate(models(tiny)):
        if seed == 1:
            model.draft_lora = lora_for(model)
        network = fast(model)
        for heat in (0.0, 0.0, 0.8):
            prompt = [rng.randrange(2, 32) for _ in range(rng.randint(1, 30))]
            tokens = rng.randint(2, 14)
            wanted = fill(model, prompt, mode, tokens, heat)
            found = fill(network, prompt, mode, tokens, heat)
            assert (found[0], found[2]) == (wanted[0], wanted[2])
            # The host polls draft steps on the device only every second time (test_denoise.py).
            assert found[1] == wanted[1] or (mode, heat) == ("diffusion", 0.0)


def test_native_infilling_finds_the_same_lengths_and_tokens(tiny: Any, fast: Make) -> None:
    model = tiny.model(4)
    seen = []
    for network in (model, fast(model)):
        cache = PromptCache(network, capacity=200)
        cache.prefill([5, 6, 7, 8])
        right = RightContext.of([9, 10, 11], 8)
        core = DecodingCore(network, cache.kv, StopRule(NO_EOM, 20), Sampler(), block_size=8)
        lengths = [probe.length for probe in probe_lengths(core, right, (1, 2, 4, 6, 12))]
        list(native_infill(core, right, 9, ModeOptions().rule))
        seen.append((lengths, core.tokens))
    assert seen[0] == seen[1]
    assert len(seen[0][1]) == 9


def test_parts_over_several_caches_equal_separate_forwards(tiny: Any, fast: Make) -> None:
    rng = Random(2)
    for model in models(tiny):
        network = fast(model)
        alone, together = [], []
        for number, (width, attention, positions, _) in enumerate(forwards(6, lora_for(model))[:6]):
            prompt, tokens = some_tokens(rng, 6), some_tokens(rng, width)
            for net, found in ((model, alone), (network, together)):
                cache = KVCache(model.config, capacity=20 + number, device=net.device)
                read(net, cache, prompt)
                found.append(Part(tokens, positions[None], attention, cache))
        hidden = network.forward_parts(together, None)
        for states, ours, theirs in zip(hidden, together, alone, strict=True):
            wanted = model(theirs.tokens, theirs.positions, theirs.attention, theirs.cache)
            torch.testing.assert_close(states.cpu(), wanted, rtol=2e-5, atol=2e-5)
            # On a CPU a key's pairs lie side by side.
            half = model.config.head_dim // 2
            order = torch.arange(2 * half)
            if isinstance(network, PackedTransformer):
                order = order.view(2, half).t().reshape(-1)
            for layer in range(model.config.num_hidden_layers):
                for mine, its in (
                    (ours.cache.keys, [keys[..., order] for keys in theirs.cache.keys]),
                    (ours.cache.values, theirs.cache.values),
                ):
                    kept = 6 + ours.width
                    torch.testing.assert_close(
                        mine[layer][:, :, :kept].cpu(),
                        its[layer][:, :, :kept],
                        rtol=2e-5,
                        atol=2e-5,
                    )


def test_a_full_cache_is_refused(tiny: Any, fast: Make) -> None:
    cache = PromptCache(fast(tiny.model()), capacity=3)
    with pytest.raises(ValueError, match="holds 3 tokens, 4 were asked for"):
        cache.prefill([1, 2, 3, 4])


def test_a_cache_can_be_filled_completely(tiny: Any, fast: Make) -> None:
    """A padded step would not fit after 60 of 63 tokens, but its three real tokens do."""
    model = tiny.model(1)
    seen = []
    for network in (model, fast(model)):
        cache = PromptCache(network, capacity=63)
        cache.prefill([3 + i % 20 for i in range(60)])
        seen.append(cache.prefill([3 + i % 20 for i in range(63)]).logits)
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)


def test_a_batch_of_several_rows_is_refused(tiny: Any, fast: Make) -> None:
    model = tiny.model()
    cache = KVCache(model.config, capacity=8)
    with pytest.raises(ValueError, match="takes one row of tokens"):
        forward_one(
            fast(model), torch.ones(2, 3).long(), torch.arange(3)[None], Attention.CAUSAL, cache
        )


def test_positions_beyond_the_tables_are_computed(tiny: Any) -> None:
    model = tiny.model(5, rope=tiny.yarn())
    far = torch.tensor([[5000, 5001]])
    tokens, wanted = torch.tensor([[4, 5]]), []
    for network in (model, PackedTransformer.of(model)):
        cache = KVCache(model.config, capacity=4)
        wanted.append(forward_one(network, tokens, far, Attention.BLOCK, cache))
    torch.testing.assert_close(wanted[1], wanted[0], rtol=2e-5, atol=2e-5)


class Recorder:
    """Stand-in for recording CUDA graphs: stores the steps, and runs them on replay."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, step: Callable[[], None], state: Sequence[Tensor]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


def test_a_step_is_recorded_at_its_second_use_and_replayed_from_then_on(tiny: Any) -> None:
    model, record = tiny.model(1), Recorder()
    network = DeviceTransformer(FusedTransformer.of(model), record=record)
    cache = KVCache(model.config, capacity=1200)
    token = torch.tensor([[4]])
    for use in range(5):
        forward_one(network, token, torch.tensor([[cache.length]]), Attention.CAUSAL, cache)
        cache.advance(1)
        assert (record.recorded, record.replayed) == (min(use, 1), use)
    other = KVCache(model.config, capacity=1200)
    for _ in range(2):  # another cache has different addresses
        forward_one(network, token, torch.tensor([[0]]), Attention.CAUSAL, other)
    assert record.recorded == 2
    cache.advance(600)  # another length bound
    for _ in range(2):
        forward_one(network, token, torch.tensor([[cache.length]]), Attention.CAUSAL, cache)
    assert record.recorded == 3
    wide = torch.full((1, 200), 4)
    for _ in range(3):  # a prefill is never recorded
        forward_one(network, wide, torch.arange(200)[None], Attention.CAUSAL, other)
    assert record.recorded == 3


def test_a_draft_with_the_lora_is_recorded_separately(tiny: Any) -> None:
    """Otherwise a draft would replay a graph without the LoRA, or a verification one with it."""
    model, record = tiny.model(1), Recorder()
    network, lora = DeviceTransformer(FusedTransformer.of(model), record=record), lora_for(model)
    cache, plain = (KVCache(model.config, capacity=32) for _ in range(2))
    tokens, places = torch.tensor([[4, 1, 1, 1]]), torch.arange(4)[None]
    seen = []
    for adapter in (None, lora) * 3:
        found = forward_one(network, tokens, places, Attention.BLOCK, cache, adapter).clone()
        wanted = model(tokens, places, Attention.BLOCK, plain, adapter)
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)
        seen.append(found)
    assert record.recorded == 2
    assert (seen[0] - seen[1]).abs().max() > 0.01


@torch.inference_mode()
def test_a_recorded_step_reads_nothing_but_its_buffers(tiny: Any) -> None:
    """As in a graph replay: the inputs of the recorded call no longer exist."""
    model = tiny.model(1)
    steps: list[Callable[[], None]] = []

    def keep(step: Callable[[], None], state: Sequence[Tensor]) -> Callable[[], None]:
        steps.append(step)
        return step

    network = DeviceTransformer(FusedTransformer.of(model), record=keep)
    cache = KVCache(model.config, capacity=32)
    read(network, cache, torch.tensor([[4, 5, 6]]))
    pattern, places = row_pattern(2, 2), row_positions(3, 2, 2)[None]
    for _ in range(2):
        tokens = torch.tensor([[7, 8, 1, 1, 1, 1]])
        hidden = forward_one(network, tokens, places, pattern, cache)
    wanted = hidden.clone()
    [step] = steps
    hidden.zero_()
    pattern.fill_(False)
    places.zero_()
    step()
    torch.testing.assert_close(hidden, wanted, rtol=0, atol=0)
    assert isinstance(step.__self__, RecordedForward)  # type: ignore[attr-defined]


def test_the_fast_network_of_a_cpu_is_packed_and_takes_the_models_weights(tiny: Any) -> None:
    model = tiny.model(1)
    prompt = [4, 5, 6]
    wanted = fill(model, prompt, "ar", 6, 0.0)
    network = fast_network(model)
    assert isinstance(network, PackedTransformer)
    assert fill(network, prompt, "ar", 6, 0.0) == wanted
    assert all(weight.is_meta for weight in model.model.layers.parameters())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("large", [True, False])
def test_weights_are_packed_and_a_large_shared_head_is_not_copied(
    tiny: Any, tied: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer weights are always packed; a tied head is copied only if it is small."""
    if large:
        monkeypatch.setattr("fim_model.network.cpu.LARGEST_COPY", 0)
    weights = FusedTransformer.of(tiny.model(1, tie_word_embeddings=tied))
    embedding, head = weights.embedding.clone(), weights.head.clone()
    network = PackedTransformer(weights)
    here = pack(torch.ones(2, 2)).is_mkldnn  # otherwise plain products run
    for layer in weights.layers:
        for weight in (layer.qkv, layer.output, layer.gate_up, layer.down):
            assert isinstance(weight, Tensor)
            assert weight.is_mkldnn == here
    assert torch.equal(weights.embedding, embedding)
    assert weights.head.is_mkldnn == (here and not (tied and large))
    if tied and large:
        assert weights.head is weights.embedding
        assert weights.head.stride() == (1, len(head)), "by columns, quicker for one token"
    assert (network.device, network.dtype) == (torch.device("cpu"), torch.float32)
    torch.testing.assert_close(network.logits(torch.eye(head.shape[1])), head.T)


def test_a_forced_reference_packs_nothing(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model(1)
    fast = PackedTransformer.of(model)
    monkeypatch.setenv("FIM_KERNELS", "reference")
    plain = PackedTransformer.of(model)
    found = []
    for network in (fast, plain):
        cache = KVCache(model.config, capacity=9)
        tokens, places = torch.arange(2, 11)[None], torch.arange(9)[None]
        hidden = forward_one(network, tokens, places, Attention.BLOCK, cache)
        found.append(network.logits(hidden[0]))
    assert not plain._weights.head.is_mkldnn
    torch.testing.assert_close(found[0], found[1], rtol=2e-5, atol=2e-5)
