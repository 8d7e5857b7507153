"""The 8-bit network of a CPU with everything between two attentions in ONNX Runtime.

What stands between the attention of one layer and that of the next (output, feed-forward, the next
layer's query, key and value, with norms and quantisation) is one small graph, so that a layer costs
one call instead of two dozen. Its products of integers (MLAS) read weights about twice as fast as
oneDNN's at a few rows. Rotation, cache and attention are `cpu_attention.PartsAttention`'s, so that
masks, parts of several caches, adapters and a LoRA for drafts work as there.

Sums of integers are exact and every other operation works row by row, so a row's result does not
depend on its neighbours here either. It differs from oneDNN's in the last bits, and where a byte
lies half-way between two: `QuantizeLinear` rounds to even.

Two pools of threads in one process must not spin at the same time: ONNX Runtime's, as large as
PyTorch's at the first load, stop with each call, and OpenMP's should run with
`OMP_WAIT_POLICY=PASSIVE`, as the server has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from fim_kernels.dispatch import forced_reference
from fim_kernels.matmul_int8 import LEVELS, MIDDLE, SMALLEST
from fim_kernels.onnx_graph import MICROSOFT, Graph
from fim_kernels.types import Weight8Bit
from torch import Tensor

from fim_model.network.batch_parts import Part, shared_adapter
from fim_model.network.config import ModelConfig
from fim_model.network.cpu import (
    PackedTransformer,
    pack_head,
    pairs_side_by_side,
    reordered,
)
from fim_model.network.cpu_attention import PartsAttention, Turns, joined
from fim_model.network.fused_forward import FusedLayer, FusedTransformer, Weight
from fim_model.network.fused_network import FusedNetwork
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import RotaryEmbedding

KEPT_WIDTH = 64
"""Forwards of up to this many rows share buffers that are kept; those of wider ones, which are
rarer and take far longer than making buffers, are made each time."""


def available() -> bool:
    """Whether ONNX Runtime works here and its sums of products of bytes are exact.

    They are with AVX-512 VNNI, AVX-VNNI and AMX. Kernels for AVX2 and AVX-512 without VNNI add
    pairs of products in 16 bits (VPMADDUBSW), which cuts off sums of large ones.
    """
    return not forced_reference() and _works()


@cache
def _works() -> bool:
    """Whether a network of one layer, which has every operation of larger ones, runs, and the
    largest sums of its products are right."""
    try:
        weights = _smallest_network()
        qkv = weights.layers[0].qkv
        assert isinstance(qkv, Weight8Bit)
        order = pairs_side_by_side(weights.config)
        sums = qkv.dequantise(torch.float32)[order].sum(1)
        first, last = _sessions(weights)
        # One row is multiplied by other code than several.
        for ones in (torch.ones(1, qkv.values.shape[1]), torch.ones(19, qkv.values.shape[1])):
            [heads] = first.run(["heads"], {"residual": ones.numpy()})
            last.run(None, {"residual": ones.numpy(), "mixed": ones.numpy()})
            if not torch.allclose(torch.from_numpy(heads), sums.expand(len(ones), -1), rtol=1e-3):
                return False
    except Exception:  # Whatever is wrong with an installation, there is another network.
        return False
    return True


def _smallest_network() -> FusedTransformer:
    """One layer, whose weights are as large as bytes can be, of either sign."""
    size = 64
    config = ModelConfig(
        vocab_size=1, hidden_size=size, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=size, intermediate_size=size,
    )  # fmt: skip

    def matrix(rows: int) -> Weight8Bit:
        signs = (1 - 2 * (torch.arange(rows) % 2)).to(torch.int8)
        return Weight8Bit((LEVELS * signs)[:, None].repeat(1, size), torch.ones(rows))

    one = matrix(size)
    layer = FusedLayer(
        torch.ones(size), matrix(3 * size), one, torch.ones(size), matrix(2 * size), one
    )
    table, norm = torch.zeros(1, size), torch.ones(size)
    return FusedTransformer(config, table, [layer], norm, table, RotaryEmbedding(config))


@dataclass(frozen=True, slots=True)
class Buffers:
    """What sessions read and write.

    residual: float32 `[T, hidden]`, a pair that layers use in turn. heads: `[T, (H + 2G) * D]`.
    mixed: `[T, H * D]`, what attention returned. hidden: `[T, hidden]`, the result.
    """

    residual: tuple[Tensor, Tensor]
    heads: Tensor
    mixed: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, config: ModelConfig, width: int) -> Buffers:
        size, attended = config.hidden_size, config.num_attention_heads * config.head_dim
        heads = attended + 2 * config.num_key_value_heads * config.head_dim
        widths = (size, size, heads, attended, size)
        even, odd, *others = (torch.empty(width, columns) for columns in widths)
        return cls((even, odd), *others)

    def first(self, width: int) -> Buffers:
        """The first rows of each."""
        even, odd = self.residual
        others = (self.heads, self.mixed, self.hidden)
        return Buffers((even[:width], odd[:width]), *(buffer[:width] for buffer in others))


@dataclass(frozen=True, slots=True)
class Step:
    """The buffers of one width, and how each session is bound to them."""

    buffers: Buffers
    bindings: list[Any]


class OnnxTransformer(PackedTransformer):
    """A `Network` over a model's rearranged 8-bit weights."""

    def __init__(self, weights: FusedTransformer, draft_lora: DraftLora | None = None) -> None:
        FusedNetwork.__init__(self, weights, draft_lora)
        pack_head(weights, integers=True)
        self._turns = Turns(weights.config, weights.rotary)
        self._input_norms = [layer.input_norm for layer in weights.layers]
        self._sessions = _sessions(weights)
        self._kept = Buffers.of(self.config, KEPT_WIDTH)
        self._steps: dict[int, Step] = {}

    @staticmethod
    def prepared(layer: FusedLayer, config: ModelConfig) -> FusedLayer:
        """As it is: graphs are made of two layers at a time."""
        return layer

    @property
    def products(self) -> str:
        return "8-bit integers, ONNX Runtime"

    @torch.inference_mode()
    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`."""
        adapter = shared_adapter(parts)
        tokens = joined([part.tokens[0] for part in parts])
        step = self._step(len(tokens))
        buffers = step.buffers
        attend = PartsAttention(parts, self.config, self._turns, buffers.mixed)
        buffers.residual[0].copy_(self._embed(tokens))
        first, *others = zip(self._sessions, step.bindings, strict=True)
        first[0].run_with_iobinding(first[1])
        for i, (session, binding) in enumerate(others):
            residual = buffers.residual[i % 2]
            if adapter is not None:
                buffers.heads.add_(adapter.heads[i](self._norm(residual, self._input_norms[i])))
            attend(i, buffers.heads)
            if adapter is not None:
                residual.add_(adapter.output[i](buffers.mixed))
            if lora is not None:
                residual.add_(lora.update(i, buffers.mixed))
            session.run_with_iobinding(binding)
        # The buffers are the next forward's: another thread may run it while this result is read.
        return attend.split(buffers.hidden.clone())

    def _step(self, width: int) -> Step:
        if width in self._steps:
            return self._steps[width]
        if width > KEPT_WIDTH:
            return _bound(self._sessions, Buffers.of(self.config, width))
        step = self._steps[width] = _bound(self._sessions, self._kept.first(width))
        return step


def _sessions(weights: FusedTransformer) -> list[Any]:
    """One session more than there are layers; the layers' weights are taken out on the way."""
    module, options = runtime()
    order = pairs_side_by_side(weights.config)
    found, before = [], None
    waiting = [None, *reversed(weights.layers)]
    weights.layers.clear()
    while waiting:
        layer = waiting.pop()
        if layer is not None:
            bias = layer.qkv_bias
            layer_qkv = reordered(layer.qkv, order), None if bias is None else bias[order]
        builder = _Between(weights.config)
        norm = weights.norm if layer is None else layer.input_norm
        graph = builder.build(before, norm, None if layer is None else layer_qkv)
        session = module.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        session._model_bytes = b""  # kept for a fallback to other devices: a copy of all weights
        found.append(session)
        before = layer
    return found


class _Between:
    """The graph from what a layer's attention returned to the next layer's heads.

    Inputs: residual `[T, hidden]` and, but for the first layer, mixed `[T, H * D]`. Outputs:
    residual_after and heads, or hidden behind the last layer.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config, self._graph = config, Graph()
        constants = {
            "middle": torch.tensor(MIDDLE, dtype=torch.uint8),
            "one": torch.tensor(1.0),
            "smallest": torch.tensor(SMALLEST),
            "level": torch.tensor(1 / LEVELS),
            "last": torch.tensor([-1]),
        }
        for name, value in constants.items():
            self._graph.constant(name, value)

    def build(
        self, layer: FusedLayer | None, norm: Tensor, qkv: tuple[Weight, Tensor | None] | None
    ) -> bytes:
        """layer: whose attention came before, None for none. norm, qkv: what follows; no qkv at the
        end."""
        graph, config = self._graph, self._config
        hidden, eps = config.hidden_size, config.rms_norm_eps
        residual = graph.input("residual", "T", hidden)
        # One zero point a row, which QuantizeLinear asks for.
        rows = graph.node("Shape", residual, start=0, end=1)
        graph.node("Expand", "middle", rows, outputs=["middles"])
        graph.constant("norm", norm.float())
        if layer is None:
            normed = graph.node(
                "SimplifiedLayerNormalization", residual, "norm", axis=-1, epsilon=eps
            )
        else:
            mixed = graph.input("mixed", "T", config.num_attention_heads * config.head_dim)
            written = self._product("output", mixed, layer.output, layer.output_bias)
            graph.constant("post_norm", layer.post_norm.float())
            normed = self._add_norm(written, residual, "post_norm", "residual_between")
            written = self._feed_forward(normed, layer)
            normed = self._add_norm(written, "residual_between", "norm", "residual_after")
        if qkv is None:
            graph.node("Identity", normed, outputs=["hidden"])
            graph.output("hidden", "T", hidden)
        else:
            graph.node("Identity", self._product("qkv", normed, *qkv), outputs=["heads"])
            heads = config.num_attention_heads + 2 * config.num_key_value_heads
            graph.output("heads", "T", heads * config.head_dim)
            if layer is not None:
                graph.output("residual_after", "T", hidden)
        return graph.serialised()

    def _add_norm(self, x: str, residual: str, norm: str, total: str) -> str:
        outputs = [f"{total}_normed", "", "", total]
        return self._graph.node(
            "SkipSimplifiedLayerNormalization", x, residual, norm,
            outputs=outputs, domain=MICROSOFT, epsilon=self._config.rms_norm_eps,
        )  # fmt: skip

    def _feed_forward(self, normed: str, layer: FusedLayer) -> str:
        graph = self._graph
        both, bias = layer.gate_up, layer.gate_up_bias
        assert isinstance(both, Weight8Bit)
        half = len(both.scale) // 2
        gate, up = (Weight8Bit(both.values[i], both.scale[i]) for i in _halves(half))
        biases = [None, None] if bias is None else [bias[i] for i in _halves(half)]
        rows, scale = self._quantised(normed)
        gated = self._scaled("gate", rows, gate, scale, biases[0])
        gated = graph.node("QuickGelu", gated, domain=MICROSOFT, alpha=1.0)  # SiLU
        if biases[1] is None:
            # A row's scale passes through the next quantisation, so one column is multiplied.
            inner = graph.node("Mul", gated, self._sums("up", rows, up))
            rows, inner_scale = self._quantised(inner)
            scale = graph.node("Mul", inner_scale, scale)
        else:
            inner = graph.node("Mul", gated, self._scaled("up", rows, up, scale, biases[1]))
            rows, scale = self._quantised(inner)
        return self._scaled("down", rows, layer.down, scale, layer.down_bias)

    def _product(self, name: str, x: str, weight: Weight, bias: Tensor | None) -> str:
        rows, scale = self._quantised(x)
        return self._scaled(name, rows, weight, scale, bias)

    def _quantised(self, x: str) -> tuple[str, str]:
        """`fim_kernels.matmul_int8.quantise_rows`: bytes `[T, K]` and scales `[T, 1]`."""
        graph = self._graph
        largest = graph.node("ReduceMax", graph.node("Abs", x), "last", keepdims=1)
        scale = graph.node("Add", graph.node("Mul", largest, "level"), "smallest")
        flat = graph.node("Reshape", scale, "last")
        return graph.node("QuantizeLinear", x, flat, "middles", axis=0), scale

    def _sums(self, name: str, rows: str, weight: Weight) -> str:
        """Sums of products times the weight's scales."""
        assert isinstance(weight, Weight8Bit)
        values = self._graph.constant(name, weight.values.t())
        scales = self._graph.constant(f"{name}_scale", weight.scale.float())
        return self._graph.node(
            "MatMulIntegerToFloat", rows, values, "one", scales, "middle", domain=MICROSOFT
        )

    def _scaled(self, name: str, rows: str, weight: Weight, scale: str, bias: Tensor | None) -> str:
        product = self._graph.node("Mul", self._sums(name, rows, weight), scale)
        if bias is None:
            return product
        constant = self._graph.constant(f"{name}_bias", bias.float())
        return self._graph.node("Add", product, constant)


def _halves(half: int) -> tuple[slice, slice]:
    return slice(0, half), slice(half, None)


def _bound(sessions: Sequence[Any], buffers: Buffers) -> Step:
    """The sessions' inputs and outputs in buffers."""
    bindings = []
    for i, session in enumerate(sessions):
        # Session 0 reads the embedding in the first residual and leaves it there.
        places = {
            "residual": buffers.residual[(i - 1) % 2 if i else 0],
            "residual_after": buffers.residual[i % 2],
            "mixed": buffers.mixed, "heads": buffers.heads, "hidden": buffers.hidden,
        }  # fmt: skip
        binding = session.io_binding()
        for value in session.get_inputs():
            _bind(binding.bind_input, value.name, places[value.name])
        for value in session.get_outputs():
            _bind(binding.bind_output, value.name, places[value.name])
        bindings.append(binding)
    return Step(buffers, bindings)


def _bind(bind: Any, name: str, buffer: Tensor) -> None:
    import numpy as np

    bind(name, "cpu", 0, np.float32, tuple(buffer.shape), buffer.data_ptr())


@cache
def runtime() -> tuple[Any, Any]:
    """The module and the options of every session. The pool of threads is the process's, as large
    as PyTorch's at the first load."""
    import onnxruntime

    onnxruntime.set_global_thread_pool_sizes(torch.get_num_threads(), 1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.use_per_session_threads = False
    # Each session would keep an arena as large as its widest forward.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime, options
