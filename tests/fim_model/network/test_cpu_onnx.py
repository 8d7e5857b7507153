"""ONNX Runtime between attentions gives what the packed 8-bit network gives, but for roundings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fim_kernels.onnx_graph import Graph
from fim_model.network import cpu_onnx
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.choice import fast_network
from fim_model.network.contract import Network, forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import TriModeTransformer
from torch import Tensor

pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
pytestmark = pytest.mark.skipif(
    not cpu_onnx.available(),
    reason="this processor has no exact products of bytes (no VNNI, no AMX)",
)

SHAPE = {"hidden_size": 64, "intermediate_size": 96}
BIASES = {"query_bias": True, "output_bias": True, "mlp_bias": True}


@pytest.fixture(params=["plain", "yarn", "biases", "untied, another seed"])
def model(request: pytest.FixtureRequest, tiny: Any) -> TriModeTransformer:
    changes: dict[str, Any] = {
        "plain": {},
        "yarn": {"rope": tiny.yarn(original_max_position_embeddings=8)},
        "biases": BIASES,
        "untied, another seed": {"tie_word_embeddings": False, "num_key_value_heads": 1},
    }[request.param]
    made: TriModeTransformer = tiny.model(len(request.param), **SHAPE, **changes)
    return made


def both(model: TriModeTransformer) -> list[Network]:
    kinds = PackedTransformer, cpu_onnx.OnnxTransformer
    return [kind.of(model, storage=torch.int8) for kind in kinds]


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


TOLERANCE = 0.02
"""A byte half-way between two is rounded otherwise, and what follows from that; rounding weights
and rows costs 0.05 (`test_int8`)."""


def test_a_result_outlives_the_next_forward(tiny: Any) -> None:
    """The buffers of a width are used again, meanwhile by another thread's forward."""
    network = cpu_onnx.OnnxTransformer.of(tiny.model(1, **SHAPE), storage=torch.int8)
    cache = KVCache(network.config, capacity=8)
    first = forward_one(network, torch.tensor([[3]]), torch.tensor([[0]]), Attention.CAUSAL, cache)
    kept = first.clone()
    forward_one(network, torch.tensor([[5]]), torch.tensor([[0]]), Attention.CAUSAL, cache)
    assert torch.equal(first, kept)


def test_every_kind_of_forward_equals_the_packed_one(model: TriModeTransformer) -> None:
    draw = torch.Generator().manual_seed(3)
    tree = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    found: list[list[Tensor]] = []
    config = model.config
    width = config.num_attention_heads * config.head_dim
    sides = [
        tuple(torch.randn(shape, generator=draw) for _ in range(config.num_hidden_layers))
        for shape in ((4, width), (config.hidden_size, 4))
    ]
    lora = DraftLora(sides[0], sides[1], 0.05)
    for network in both(model):
        cache, states = KVCache(config, capacity=60), []
        ask: list[tuple[int, Attention | Tensor, DraftLora | None]] = [
            (20, Attention.CAUSAL, None), (1, Attention.CAUSAL, None), (7, Attention.BLOCK, lora),
            (7, Attention.BLOCK, None), (4, tree, None), (1, Attention.CAUSAL, lora),
        ]  # fmt: skip
        for count, attention, adapter in ask:
            tokens = torch.arange(cache.length, cache.length + count)[None] % 29 + 2
            places = torch.arange(cache.length, cache.length + count)[None]
            states.append(forward_one(network, tokens, places, attention, cache, adapter).clone())
            cache.advance(count)
        found.append(states)
    for ours, theirs in zip(*found, strict=True):
        assert error(ours, theirs) < TOLERANCE


def test_parts_of_several_caches_equal_each_alone(model: TriModeTransformer) -> None:
    network = cpu_onnx.OnnxTransformer.of(model, storage=torch.int8)

    def part(number: int) -> Part:
        cache = KVCache(model.config, capacity=30)
        tokens = torch.arange(2, 4 + number)[None]
        places = torch.arange(tokens.shape[1])[None]
        forward_one(network, tokens, places, Attention.CAUSAL, cache)
        cache.advance(tokens.shape[1])
        new = torch.arange(number + 1)[None]
        kind = Attention.BLOCK if number % 2 else Attention.CAUSAL
        return Part(new + 3, new + cache.length, kind, cache)

    together = [
        states.clone() for states in network.forward_parts([part(i) for i in range(5)], None)
    ]
    for number, states in enumerate(together):
        alone = network.forward_parts([part(number)], None)[0]
        assert error(states, alone) < TOLERANCE


def test_wide_forwards_keep_no_buffers(tiny: Any) -> None:
    network = cpu_onnx.OnnxTransformer.of(tiny.model(1, **SHAPE), storage=torch.int8)
    for count in (3, cpu_onnx.KEPT_WIDTH, cpu_onnx.KEPT_WIDTH + 1):
        cache = KVCache(network.config, capacity=count)
        tokens, places = torch.full((1, count), 5), torch.arange(count)[None]
        forward_one(network, tokens, places, Attention.CAUSAL, cache)
    assert set(network._steps) == {3, cpu_onnx.KEPT_WIDTH}
    places = {step.buffers.heads.data_ptr() for step in network._steps.values()}
    assert places == {network._kept.heads.data_ptr()}, "all widths share one buffer"


def test_it_is_chosen_for_8_bit_weights(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = fast_network(tiny.model(1, **SHAPE), "int8")
    assert isinstance(network, cpu_onnx.OnnxTransformer)
    assert network.products == "8-bit integers, ONNX Runtime"
    assert not isinstance(fast_network(tiny.model(1, **SHAPE)), cpu_onnx.OnnxTransformer)
    monkeypatch.setattr(cpu_onnx, "available", lambda: False)
    other = fast_network(tiny.model(1, **SHAPE), "int8")
    assert type(other) is PackedTransformer


@pytest.fixture
def unchecked() -> Iterator[None]:
    """ONNX Runtime is tried anew by the test, and by those after it."""
    cpu_onnx._works.cache_clear()
    yield
    cpu_onnx._works.cache_clear()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("broken", ["import", "operation"])
def test_a_broken_installation_is_not_used(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise ImportError("libonnxruntime.so: undefined symbol")

    if broken == "import":
        monkeypatch.setattr(cpu_onnx, "runtime", fail)
    else:
        monkeypatch.setattr(cpu_onnx, "MICROSOFT", "com.example")
    assert type(fast_network(tiny.model(1, **SHAPE), "int8")) is PackedTransformer


class _Saturating:
    """A session on a processor that adds pairs of products in 16 bits."""

    def __init__(self, session: Any, narrowest: int) -> None:
        self._session, self._narrowest = session, narrowest

    def run(self, names: object, given: dict[str, Any]) -> list[Any]:
        found = [torch.from_numpy(value) for value in self._session.run(names, given)]
        if len(given["residual"]) >= self._narrowest:
            found = [value.clamp(max=0.99 * float(value.max())) for value in found]
        return [value.numpy() for value in found]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("narrowest", [1, 2], ids=["every width", "several rows"])
def test_a_processor_that_cuts_off_large_sums_is_noticed(
    monkeypatch: pytest.MonkeyPatch, narrowest: int
) -> None:
    made = cpu_onnx._sessions
    monkeypatch.setattr(
        cpu_onnx, "_sessions", lambda w: [_Saturating(each, narrowest) for each in made(w)]
    )
    assert not cpu_onnx.available()


def test_a_graph_means_what_it_says() -> None:
    """The writer against ONNX Runtime's reader: names, shapes, types, numbers of all kinds."""
    graph = Graph()
    x = graph.input("x", "rows", 300)
    table = torch.linspace(-3, 3, 300 * 200).view(300, 200)
    product = graph.node("MatMul", x, graph.constant("table", table))
    last = graph.constant("last", torch.tensor([-1]))
    most = graph.node("ReduceMax", product, last, keepdims=0)
    graph.node("Elu", most, outputs=["y"], alpha=0.25)
    graph.output("y", "rows")
    module, options = cpu_onnx.runtime()
    session = module.InferenceSession(
        graph.serialised(), options, providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape == ["rows", 300]
    rows = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    found = torch.from_numpy(session.run(None, {"x": rows.numpy()})[0])
    wanted = torch.nn.functional.elu((rows @ table).amax(1), alpha=0.25)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
