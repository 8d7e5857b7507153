"""`fim-server bench forward`: time one narrow forward at batch 1, from token ids to scores.

Compares our forward (on CUDA fused operations, with and without a CUDA graph; on a CPU the
network that serves such weights) with eager PyTorch, `torch.compile` and transformers' Ministral-3,
all in one run over the same random weights and cache length. The floor is the roofline bound for
the layers' weights, the vocabulary head, and the context's keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from fim_kernels.dispatch import references_alone
from fim_kernels.token_scores import score_tokens
from fim_model.loading.load_network import multiplies_integers
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.choice import fast_network
from fim_model.network.config import ModelConfig
from fim_model.network.contract import Network
from fim_model.network.cpu_onnx import OnnxTransformer
from fim_model.network.cuda_graphs import capture
from fim_model.network.fused_forward import DeviceCache, FusedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import RotaryEmbedding, TriModeTransformer
from rich.table import Table

from fim_server.bench.device_timing import Roof, Stopwatch, measure_roof
from fim_server.bench.kernels import device_name
from fim_server.bench.machine import Machine, machine_description
from fim_server.bench.roofline import Work

STORAGE = {"f32": None, "bf16": None, "fp8": torch.float8_e4m3fn, "int8": torch.int8}
"""Storage dtype of the layers' weights; None keeps the model's dtype."""

TENSORS = {
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "fp8": torch.bfloat16,
    "int8": torch.bfloat16,
}
"""Dtype of all other tensors, on a GPU."""

RIVALS = ("eager", "compiled", "transformers")

Step = Callable[[], object]


def tensor_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Dtype of all tensors not stored in 8 bits: float32 on a CPU, as in the server."""
    if STORAGE[dtype] is not None and device.type == "cpu":
        return torch.float32
    return TENSORS[dtype]


@dataclass(frozen=True, slots=True)
class ForwardFigures:
    """path: `fused`, `graph`, a CPU's network (`packed`, `onnx`) or one of RIVALS.

    weights: storage of its layers' weights. moved: bytes that must be read. share: floor_ms / ms,
    1 at the roofline.
    """

    path: str
    weights: str
    width: int
    context: int
    ms: float
    moved: float
    flops: float
    floor_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class ForwardReport:
    device: str
    machine: Machine
    date: str
    shape: str
    roof: Roof
    forwards: list[ForwardFigures]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_works(self) -> list[Work]:
        return [
            Work(f"{row.path}, {row.width} x {row.context}", row.moved, row.flops, row.ms)
            for row in self.forwards
        ]

    def as_table(self) -> Table:
        table = Table(
            title=f"{self.shape} on {self.device}; copy {self.roof.bytes_per_s / 1e9:.0f} GB/s, "
            f"product {self.roof.flop_per_s / 1e12:.1f} TFLOP/s"
        )
        for column in ("path", "weights", "width", "context", "ms", "floor ms", "share"):
            table.add_column(column, justify="left" if column in ("path", "weights") else "right")
        for row in self.forwards:
            table.add_row(
                row.path, row.weights, str(row.width), str(row.context), f"{row.ms:.3f}",
                f"{row.floor_ms:.3f}", f"{row.share:.0%}",
            )  # fmt: skip
        return table


def bench_forward(
    config: ModelConfig,
    name: str,
    *,
    widths: Sequence[int],
    contexts: Sequence[int],
    dtype: str,
    against: Sequence[str],
    device: torch.device,
    progress: Callable[[str], None] = lambda what: None,
) -> ForwardReport:
    """Time every path at every width and context; ValueError if a width exceeds a context."""
    if dtype == "fp8" and device.type == "cpu":
        raise ValueError("fp8 weights need a GPU; a CPU takes f32, bf16 and int8")
    if max(widths) > min(contexts):
        raise ValueError(
            f"width {max(widths)} does not fit a context of {min(contexts)}, which includes it"
        )
    watch = Stopwatch(device)
    progress("roof")
    tensors = tensor_dtype(dtype, device)
    roof = measure_roof(watch, tensors)
    figures = []
    progress("random weights")
    model = random_model(config, device, tensors)
    with torch.inference_mode():
        for path, weights, sizes, prepare in _paths(model, dtype, against):
            for context in contexts:
                for width in widths:
                    progress(f"{path}, {width} x {context}")
                    # The paths compared with use none of our kernels.
                    with references_alone() if path in RIVALS else nullcontext():
                        ms = watch.median_ms(prepare(width, context))
                    moved, flops = work(config, width, context, sizes)
                    floor = roof.floor_ms(moved, flops)
                    figures.append(
                        ForwardFigures(
                            path, weights, width, context, ms, moved, flops, floor, floor / ms
                        )
                    )
    date = datetime.now(UTC).date().isoformat()
    return ForwardReport(device_name(device), machine_description(), date, name, roof, figures)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a number of the layers' matrices, of the vocabulary head, and of cached keys."""

    layers: int
    head: int
    keys: int

    @classmethod
    def of(cls, weights: str, tensors: torch.dtype) -> Sizes:
        """Of layers stored as `weights`, a key of STORAGE, and everything else in `tensors`."""
        size = tensors.itemsize
        return cls(size if STORAGE[weights] is None else 1, size, size)

    @classmethod
    def on_cpu(cls, network: Network, weights: str) -> Sizes:
        """Of a network that serves on a CPU, where a head beside 8-bit layers has 8 bits too."""
        found = cls.of(weights, network.dtype)
        integers = found.layers == 1 and multiplies_integers()
        return replace(found, head=1 if integers else found.head, keys=network.cache_dtype.itemsize)


def work(config: ModelConfig, width: int, context: int, sizes: Sizes) -> tuple[float, float]:
    """The bytes that one forward must read and its operations; `context` includes the width."""
    heads, groups, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    layer = config.hidden_size * dim * (2 * heads + 2 * groups)
    layer += 3 * config.hidden_size * config.intermediate_size
    layers = layer * config.num_hidden_layers
    head = config.vocab_size * config.hidden_size
    seen = config.num_hidden_layers * groups * dim * context
    moved = layers * sizes.layers + head * sizes.head + 2 * seen * sizes.keys
    attention = 4 * config.num_hidden_layers * heads * dim * width * context
    return float(moved), float(2 * width * (layers + head) + attention)


def random_model(
    config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.bfloat16
) -> TriModeTransformer:
    """A model with random weights, allocated directly on `device`."""
    with torch.device("meta"):
        model = TriModeTransformer(config)
    model = model.to(dtype).to_empty(device=device).requires_grad_(False)
    model.model.rotary = RotaryEmbedding(config).to(device)
    if config.tie_word_embeddings:  # to_empty untied them
        model.lm_head.weight = model.model.embed_tokens.weight
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, 0.02)
    return model


Prepare = Callable[[int, int], Step]
"""Maps (width, context) to a repeatable forward."""


def _paths(
    model: TriModeTransformer, dtype: str, against: Sequence[str]
) -> Iterator[tuple[str, str, Sizes, Prepare]]:
    """Name, weight storage, sizes and preparation of each path; RIVALS have no 8-bit weights."""
    full = {torch.float32: "f32", torch.bfloat16: "bf16"}[model.dtype]
    plain, stored = Sizes.of(full, model.dtype), Sizes.of(dtype, model.dtype)
    if "eager" in against:
        yield "eager", full, plain, lambda width, context: _plain(model, width, context)
    if "compiled" in against:
        compiled = torch.compile(model, dynamic=False)
        yield (
            "compiled", full, plain,
            lambda width, context: _compiled(model, compiled, width, context),
        )  # fmt: skip
    if "transformers" in against:
        yield "transformers", full, plain, _transformers(model)
    if model.device.type == "cpu":
        served = fast_network(model, "int8" if dtype == "int8" else "full")
        path = "onnx" if isinstance(served, OnnxTransformer) else "packed"
        sizes = Sizes.on_cpu(served, dtype)
        yield path, dtype, sizes, lambda width, context: _plain(served, width, context)
        return
    fused = FusedTransformer.of(model, storage=STORAGE[dtype], consume=True)
    yield "fused", dtype, stored, lambda width, context: _fused(fused, width, context)
    if model.lm_head.weight.is_cuda:
        graph = "graph", dtype, stored
        yield *graph, lambda width, context: capture(_fused(fused, width, context))


def _plain(model: Network, width: int, context: int) -> Step:
    block = _block(model, width, context)
    return lambda: model.scores(model.forward_parts([block], None)[0][0])


def _compiled(model: Network, compiled: Any, width: int, context: int) -> Step:
    block = _block(model, width, context)
    return lambda: model.scores(
        compiled(block.tokens, block.positions, block.attention, block.cache)[0]
    )


def _block(model: Network, width: int, context: int) -> Part:
    cache = KVCache(model.config, capacity=context, dtype=model.cache_dtype, device=model.device)
    cache.advance(context - width)
    tokens = torch.ones(1, width, dtype=torch.int64, device=model.device)
    places = torch.arange(context - width, context, device=model.device)[None]
    return Part(tokens, places, Attention.BLOCK, cache)


def _fused(model: FusedTransformer, width: int, context: int) -> Step:
    device, dtype = model.norm.device, model.norm.dtype
    cache = DeviceCache(KVCache(model.config, capacity=context, dtype=dtype, device=device))
    cache.length.fill_(context - width)
    tokens = torch.ones(1, width, dtype=torch.int64, device=device)
    return lambda: model.scores(model.forward(tokens, Attention.BLOCK, cache)[0])


def _transformers(model: TriModeTransformer) -> Prepare:
    """transformers' Ministral-3 over the same tensors; causal, since it has no block mode."""
    from transformers import DynamicCache, Ministral3Config, Ministral3ForCausalLM

    config = Ministral3Config(**model.config.to_hf())
    weight = model.lm_head.weight
    with torch.device("meta"):
        theirs = Ministral3ForCausalLM(config).eval()
    theirs.load_state_dict(model.state_dict(), strict=False, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config).to(weight.device)

    def prepare(width: int, context: int) -> Step:
        shape = (1, config.num_key_value_heads, context - width, config.head_dim)
        past = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        cache = DynamicCache(config=config)
        for layer in range(config.num_hidden_layers):
            cache.update(past, past, layer)
        tokens = torch.ones(1, width, dtype=torch.int64, device=weight.device)

        def step() -> object:
            logits = theirs(tokens, past_key_values=cache, use_cache=True).logits
            cache.crop(-width)
            return score_tokens(logits)

        return step

    return prepare
