"""8-bit weights: the quantisation error bound, and the kernel against the dequantised product."""

from importlib import import_module

import pytest
import torch
from fim_kernels.matmul_8bit import matmul_8bit, quantise
from fim_kernels.types import Weight8Bit
from kernel_checks import assert_close, normal, rows_padded
from torch import Tensor

pytest.importorskip("triton", reason="Triton has no wheel for this system")
matmul_8bit_triton = import_module("fim_kernels.matmul_8bit_triton").matmul_8bit_triton

CPU = torch.device("cpu")
STORAGES = [torch.int8, torch.float8_e4m3fn]


def exact(x: Tensor, weight: Weight8Bit) -> Tensor:
    return x.double() @ (weight.values.double() * weight.scale.double()[:, None]).T


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("rows", "channels", "depth", "splits"),
    [(1, 64, 256, 1), (5, 70, 300, 1), (17, 130, 520, 2), (33, 40, 1000, 4)],
)
def test_product(
    rows: int, channels: int, depth: int, splits: int,
    storage: torch.dtype, dtype: torch.dtype, device: torch.device,
) -> None:  # fmt: skip
    x = rows_padded(normal(rows, depth, seed=1, dtype=dtype, device=device))
    weight = quantise(normal(channels, depth, seed=2, dtype=dtype, device=device), storage)
    found = matmul_8bit_triton(x, weight, splits)
    assert found.dtype == dtype
    assert_close(found, exact(x, weight))


def test_product_keeps_leading_dimensions_and_is_deterministic(device: torch.device) -> None:
    x = normal(2, 3, 700, seed=3, dtype=torch.float32, device=device)
    weight = quantise(normal(65, 700, seed=4, dtype=torch.float32, device=device))
    found = matmul_8bit_triton(x, weight, 2)
    assert found.shape == (2, 3, 65)
    assert torch.equal(found, matmul_8bit_triton(x, weight, 2))


def test_kernel_and_reference_agree(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(4, 256, seed=5, dtype=torch.float32, device=device)
    weight = quantise(normal(48, 256, seed=6, dtype=torch.float32, device=device))
    fused = matmul_8bit(x, weight)
    monkeypatch.setenv("FIM_KERNELS", "reference")
    assert_close(fused, matmul_8bit(x, weight))


def test_int8_error_is_at_most_half_a_step() -> None:
    weight = normal(9, 100, seed=7, dtype=torch.float32, device=CPU) * 3
    stored = quantise(weight)
    error = (stored.dequantise(torch.float32) - weight).abs()
    assert (error <= stored.scale[:, None] * 0.5001).all()
    assert stored.values.abs().amax(1).min() >= 126  # the step is rounded up to a bfloat16
    assert stored.scale_bf16 is not None
    assert torch.equal(stored.scale_bf16.float(), stored.scale)


@pytest.mark.parametrize(("channels", "depth"), [(48, 256), (65, 704), (16, 16), (20, 40)])
def test_pytorchs_cpu_kernel_equals_the_reference_and_is_row_invariant(
    channels: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's result is bit-identical for any number of rows. Depth 40 is not a multiple of 16,
    which that kernel requires, so the reference must run.
    """
    x = normal(2, 33, depth, seed=8, dtype=torch.bfloat16, device=CPU)
    weight = quantise(normal(channels, depth, seed=9, dtype=torch.float32, device=CPU))
    found = matmul_8bit(x, weight)
    assert_close(found, exact(x, weight))
    if depth % 16 == 0:
        for width in (1, 2, 3, 4, 5, 16, 33):
            assert torch.equal(matmul_8bit(x[:, :width].contiguous(), weight), found[:, :width])
    monkeypatch.setenv("FIM_KERNELS", "reference")
    assert_close(matmul_8bit(x, weight), found)


def test_float8_relative_error_is_at_most_a_sixteenth() -> None:
    weight = normal(9, 100, seed=8, dtype=torch.float32, device=CPU)
    stored = quantise(weight, torch.float8_e4m3fn)
    error = (stored.dequantise(torch.float32) - weight).abs()
    smallest = stored.scale[:, None] * 2**-9
    assert (error <= torch.maximum(weight.abs() / 16, smallest)).all()


def test_a_row_of_zeros_stays_zeros() -> None:
    stored = quantise(torch.zeros(2, 8))
    assert not stored.dequantise(torch.float32).any()


def test_other_storage_types_are_refused() -> None:
    with pytest.raises(ValueError, match="int4"):
        quantise(torch.zeros(2, 8), torch.int4)
