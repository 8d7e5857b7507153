"""Kernel, forward and completion benchmarks on the simulated GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fim_model.network.config import ModelConfig
from stand_in_gpu import CUDA, StandInGpu, stand_in_gpu

from fim_server.bench import device_timing, forward, kernels
from fim_server.bench.decoding import bench_completion
from fim_server.bench.device_timing import Roof
from fim_server.bench.forward import RIVALS, bench_forward
from fim_server.bench.kernels import bench_kernels

TINY = ModelConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, intermediate_size=48, mask_token_id=1,
)  # fmt: skip


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGpu]:
    """Slow settings of GPU runs are reduced, and nothing is compiled."""
    for module in (kernels, forward):
        monkeypatch.setattr(module, "measure_roof", lambda watch, dtype: Roof(1e9, 1e9))
    monkeypatch.setattr(device_timing, "FLUSH_BYTES", 64)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    with stand_in_gpu(monkeypatch) as found:
        yield found


def test_operations_are_measured_with_kernels(gpu: StandInGpu) -> None:
    report = bench_kernels(TINY, "tiny", width=4, context=16, device=CUDA)
    assert (report.path, report.device) == ("triton", "a stand-in")
    assert len(report.kernels) == 10
    assert gpu.launches > 10 * 5


def test_a_forward_is_measured_fused_as_a_graph_and_in_plain_pytorch(gpu: StandInGpu) -> None:
    """The PyTorch baseline runs none of our kernels."""
    launches: dict[str, int] = {}
    report = bench_forward(
        TINY, "tiny", widths=[4], contexts=[16], dtype="bf16", against=RIVALS, device=CUDA,
        progress=lambda what: launches.update({what.split(",")[0]: gpu.launches}),
    )  # fmt: skip
    cells = [(row.path, row.weights) for row in report.forwards]
    assert cells == [(path, "bf16") for path in (*RIVALS, "fused", "graph")]
    assert launches["fused"] == launches["eager"] == 0
    assert launches["graph"] > 0
    [graph] = gpu.graphs
    assert graph.replays >= 5


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_8bit_weights_are_measured(gpu: StandInGpu, dtype: str) -> None:
    report = bench_forward(
        TINY, "tiny", widths=[4], contexts=[16], dtype=dtype, against=[], device=CUDA
    )
    assert [(row.path, row.weights) for row in report.forwards] == [
        ("fused", dtype),
        ("graph", dtype),
    ]


def test_a_hole_is_filled_in_every_mode(gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "reference")
    report = bench_completion(
        TINY, "tiny", context=8, tokens=4, dtype="bf16", device=CUDA, budget_s=0
    )
    assert report.network == "DeviceTransformer"
    assert all((row.tokens, row.n) == (4, 3) for row in report.completions)
    assert gpu.graphs
