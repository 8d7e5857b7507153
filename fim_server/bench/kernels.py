"""`fim-server bench kernels`: time each operation against its floor, its reference and libraries.

The floor is the roofline bound measured on this device in this run: the time of a large copy of the
operation's bytes or of a large product of its operations, whichever is longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from fim_kernels.attention import attend, attend_reference
from fim_kernels.commit import commit_confident, commit_confident_reference
from fim_kernels.dispatch import use_triton
from fim_kernels.lm_head import score_head, score_head_reference
from fim_kernels.matmul_8bit import matmul_8bit, matmul_8bit_reference, quantise
from fim_kernels.rms_norm import add_rms_norm, add_rms_norm_reference
from fim_kernels.rotary import rotate_into_cache, rotate_into_cache_reference
from fim_kernels.swiglu import swiglu, swiglu_reference
from fim_kernels.token_scores import score_all, score_all_reference
from fim_kernels.types import DeviceCanvas, TokenScores
from fim_model.network.config import ModelConfig
from rich.table import Table
from torch.nn.attention.flex_attention import flex_attention

from fim_server.bench.device_timing import Roof, Stopwatch, measure_roof
from fim_server.bench.machine import Machine, machine_description
from fim_server.bench.roofline import Work

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """moved: bytes that must be read or written. libraries: other implementations, by name."""

    name: str
    run: Run
    reference: Run
    moved: float
    flops: float
    libraries: Mapping[str, Run] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KernelFigures:
    """Median milliseconds, None where a library cannot run here. share: floor_ms / ms, 1 at the
    roofline."""

    name: str
    ms: float
    reference_ms: float
    libraries_ms: dict[str, float | None]
    moved: float
    flops: float
    floor_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class KernelReport:
    """path: `triton` or `reference`, as chosen by the dispatch rule."""

    device: str
    machine: Machine
    date: str
    path: str
    shape: str
    width: int
    context: int
    roof: Roof
    kernels: list[KernelFigures]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_works(self) -> list[Work]:
        return [Work(row.name, row.moved, row.flops, row.ms) for row in self.kernels]

    def as_table(self) -> Table:
        table = Table(
            title=f"{self.device}, {self.path}, {self.shape}, width {self.width}, context "
            f"{self.context}; copy {self.roof.bytes_per_s / 1e9:.0f} GB/s, product "
            f"{self.roof.flop_per_s / 1e12:.1f} TFLOP/s"
        )
        for column in ("operation", "ms", "floor ms", "share", "reference ms", "libraries, ms"):
            table.add_column(column, justify="left" if column == "operation" else "right")
        for row in self.kernels:
            libraries = ", ".join(
                f"{name} {'unsupported' if ms is None else f'{ms:.4f}'}"
                for name, ms in row.libraries_ms.items()
            )
            table.add_row(
                row.name, f"{row.ms:.4f}", f"{row.floor_ms:.4f}", f"{row.share:.0%}",
                f"{row.reference_ms:.4f}", libraries or "-",
            )  # fmt: skip
        return table


def bench_kernels(
    config: ModelConfig,
    name: str,
    *,
    width: int,
    context: int,
    device: torch.device,
    progress: Callable[[str], None] = lambda what: None,
) -> KernelReport:
    """Time all operations in one shape, in bfloat16 at batch 1."""
    watch = Stopwatch(device)
    progress("roof")
    roof = measure_roof(watch, torch.bfloat16)
    figures = []
    for case in cases(config, width, context, device):
        progress(case.name)
        ms, reference_ms = watch.median_ms(case.run), watch.median_ms(case.reference)
        libraries_ms = {name: library_ms(watch, run) for name, run in case.libraries.items()}
        floor = roof.floor_ms(case.moved, case.flops)
        figures.append(
            KernelFigures(
                case.name, ms, reference_ms, libraries_ms, case.moved, case.flops, floor, floor / ms
            )
        )
    triton = use_triton(torch.zeros(1, device=device))
    return KernelReport(
        device=device_name(device),
        machine=machine_description(),
        date=datetime.now(UTC).date().isoformat(),
        path="triton" if triton else "reference",
        shape=name,
        width=width,
        context=context,
        roof=roof,
        kernels=figures,
    )


def library_ms(watch: Stopwatch, run: Run) -> float | None:
    """A library's median time, or None if it rejects this device or shape or lacks the function."""
    try:
        return watch.median_ms(run)
    except (RuntimeError, ImportError, TypeError):
        return None


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def cases(config: ModelConfig, width: int, context: int, device: torch.device) -> Iterator[Case]:
    """Yield the cases one at a time, so that only one's tensors are in memory."""

    def x(*size: int) -> torch.Tensor:
        return torch.randn(*size, device=device).bfloat16()

    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    yield from _products(x, hidden, inner, vocabulary, width)
    yield from _attention(x, config, width, context)
    a, b, weight = x(width, hidden), x(width, hidden), x(hidden)
    yield Case(
        "residual + RMSNorm", lambda: add_rms_norm(a, b, weight, 1e-5),
        lambda: add_rms_norm_reference(a, b, weight, 1e-5), 8 * width * hidden, 0,
    )  # fmt: skip
    gate, up = x(width, 2 * inner).chunk(2, dim=-1)
    yield Case(
        "SwiGLU", lambda: swiglu(gate, up), lambda: swiglu_reference(gate, up),
        6 * width * inner, 0,
    )  # fmt: skip
    canvas = DeviceCanvas.empty(1, width, device)
    scores = TokenScores(canvas.tokens, canvas.confidence, canvas.confidence)
    yield Case(
        "commit", lambda: commit_confident(canvas, scores, 0.9),
        lambda: commit_confident_reference(canvas, scores, 0.9), 46 * width, 0,
    )  # fmt: skip


def _products(
    x: Callable[..., torch.Tensor], hidden: int, inner: int, vocabulary: int, width: int
) -> Iterator[Case]:
    states, head = x(width, hidden), x(vocabulary, hidden)
    yield Case(
        "vocabulary head + scores", lambda: score_head(states, head),
        lambda: score_head_reference(states, head), 2 * vocabulary * hidden,
        2 * width * vocabulary * hidden,
        {"F.linear, then scores": lambda: score_all(F.linear(states, head))},
    )  # fmt: skip
    logits = F.linear(states, head)
    yield Case(
        "scores of logits", lambda: score_all(logits), lambda: score_all_reference(logits),
        2 * width * vocabulary, 0,
    )  # fmt: skip
    wide, full = x(width, inner), x(hidden, inner)
    moved, flops = inner * hidden, 2 * width * inner * hidden
    full_product = {"F.linear, bf16": lambda: F.linear(wide, full)}
    small = quantise(full)
    scale = small.scale.bfloat16()
    yield Case(
        "int8 product", lambda: matmul_8bit(wide, small),
        lambda: matmul_8bit_reference(wide, small), moved, flops,
        {**full_product,
         "_weight_int8pack_mm": lambda: torch._weight_int8pack_mm(wide, small.values, scale)},
    )  # fmt: skip
    if full.is_cuda and torch.cuda.get_device_capability(full.device) < (8, 9):
        return
    float8 = quantise(full, torch.float8_e4m3fn)
    narrow, unit = wide.to(torch.float8_e4m3fn), torch.ones((), device=full.device)
    yield Case(
        "fp8 product", lambda: matmul_8bit(wide, float8),
        lambda: matmul_8bit_reference(wide, float8), moved, flops,
        # _scaled_mm also takes 8-bit inputs; their conversion is not timed.
        {**full_product,
         "_scaled_mm": lambda: torch._scaled_mm(
             narrow, float8.values.t(), unit, unit, out_dtype=torch.bfloat16)},
    )  # fmt: skip


def _attention(
    x: Callable[..., torch.Tensor], config: ModelConfig, width: int, context: int
) -> Iterator[Case]:
    heads, groups, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    keys, values = x(1, groups, context, dim), x(1, groups, context, dim)
    query = x(1, heads, width, dim)
    moved = 4 * groups * context * dim + 4 * heads * width * dim
    flops = 4 * heads * width * context * dim
    for name, causal in (("attention, bidirectional", False), ("attention, causal", True)):
        yield Case(
            name,
            partial(attend, query, keys, values, causal=causal),
            partial(attend_reference, query, keys, values, causal=causal),
            moved,
            flops,
            {} if causal else {
                "SDPA": partial(
                    F.scaled_dot_product_attention, query, keys, values, enable_gqa=True
                ),
                "FlexAttention": partial(
                    torch.compile(flex_attention), query, keys, values, enable_gqa=True
                ),
                "varlen_attn": _varlen_attention(query, keys, values),
            },
        )  # fmt: skip
    new_keys, new_values = x(1, groups, width, dim), x(1, groups, width, dim)
    cos, sin = x(1, width, dim), x(1, width, dim)
    start = torch.full((1,), context - width, dtype=torch.int32, device=query.device)
    arguments = (query, new_keys, new_values, cos, sin, keys, values, start)
    yield Case(
        "rotary + cache write", lambda: rotate_into_cache(*arguments),
        lambda: rotate_into_cache_reference(*arguments),
        (4 * heads + 8 * groups) * width * dim, 0,
    )  # fmt: skip


def _varlen_attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Run:
    """torch's variable-length flash attention (CUDA only).

    It takes tensors of shape `[T, heads, dim]`; the copies are made here and not timed.
    """
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, keys, values))
    ends_q, ends_k = (
        torch.tensor([0, len(rows)], dtype=torch.int32, device=query.device) for rows in (q, k)
    )

    def run() -> object:
        from torch.nn.attention.varlen import varlen_attn

        return varlen_attn(q, k, v, ends_q, ends_k, len(q), len(k), enable_gqa=True)

    return run
