"""Integer products: exact sums, rows that do not depend on each other, and the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fim_kernels.matmul_8bit import quantise
from fim_kernels.matmul_int8 import (
    IntegerWeight,
    available,
    integer_product,
    integer_product_reference,
    matmul_int8,
    matmul_int8_fine,
    pack_int8,
    quantise_rows,
    rms_norm_matmul_int8,
)
from fim_kernels.rms_norm import rms_norm
from kernel_checks import normal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
WIDTHS = (1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 72)
SHAPES = [(48, 256), (65, 704), (960, 576), (576, 1536), (20, 40)]

needs_integers = pytest.mark.skipif(
    not available(), reason="this processor or build of PyTorch has no quick integer products"
)


def rows(count: int, depth: int, seed: int = 3) -> Tensor:
    """Rows of very different size, one of them zeros."""
    x = normal(count, depth, seed=seed, dtype=torch.float32, device=CPU)
    x *= torch.logspace(-3, 3, count)[:, None]
    x[count // 2] = 0
    return x


def weight(channels: int, depth: int) -> tuple[IntegerWeight, IntegerWeight, Tensor]:
    """Packed, as it is, and what both stand for."""
    full = normal(channels, depth, seed=1, dtype=torch.float32, device=CPU)
    bytes_ = quantise(full)
    packed = pack_int8(bytes_)
    plain = IntegerWeight(bytes_.values, bytes_.scale, packed.no_shift)
    return packed, plain, bytes_.dequantise(torch.float64)


@pytest.mark.parametrize(("channels", "depth"), SHAPES)
def test_packed_products_equal_the_reference_to_the_last_bit(channels: int, depth: int) -> None:
    packed, plain, _ = weight(channels, depth)
    for width in WIDTHS:
        made = quantise_rows(rows(width, depth))
        wanted = integer_product_reference(made, plain)
        assert torch.equal(integer_product(made, packed), wanted)


def test_the_largest_sums_do_not_overflow() -> None:
    """All activations and weights at their largest, of either sign."""
    depth = 8192
    for sign in (1, -1):
        values = torch.full((16, depth), sign * 127, dtype=torch.int8)
        ones, none = torch.ones(16), torch.zeros(16, dtype=torch.int32)
        packed = quantise(values.float())
        found = matmul_int8(torch.ones(3, depth), pack_int8(packed))
        wanted = torch.full((3, 16), float(sign * 127 * depth))
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
        plain = IntegerWeight(values, ones, none)
        assert torch.equal(
            integer_product(quantise_rows(torch.ones(3, depth)), plain),
            torch.full((3, 16), float(sign * 127 * 127 * depth)),
        )


@pytest.mark.parametrize(("channels", "depth"), SHAPES)
def test_the_product_is_near_the_exact_one(channels: int, depth: int) -> None:
    """Half a step of 127 for each activation, all errors of one sign at worst."""
    packed, _, full = weight(channels, depth)
    x = rows(33, depth)
    exact = x.double() @ full.T
    bound = (x.abs().amax(1, keepdim=True) / 127 * 0.51).double() * full.abs().sum(1)
    assert ((matmul_int8(x, packed).double() - exact).abs() <= bound).all()


@needs_integers
@pytest.mark.parametrize(("channels", "depth"), SHAPES)
def test_a_row_does_not_depend_on_other_rows(channels: int, depth: int) -> None:
    packed, _, _ = weight(channels, depth)
    x, norm = rows(max(WIDTHS), depth), torch.rand(depth) + 0.5
    alone = torch.cat([matmul_int8(row[None], packed) for row in x])
    normed = torch.cat([rms_norm_matmul_int8(row[None], norm, packed, 1e-5) for row in x])
    for width in WIDTHS:
        assert torch.equal(matmul_int8(x[:width], packed), alone[:width])
        found = rms_norm_matmul_int8(x[:width], norm, packed, 1e-5)
        assert torch.equal(found, normed[:width])


@needs_integers
def test_few_numbers_of_rows_reach_onednn() -> None:
    """It makes code for every number that it meets, and keeps it: a third of a megabyte each."""
    packed, _, _ = weight(48, 256)
    met = set()

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.onednn.qlinear_pointwise.default:
                met.add(len(args[0]))
            return func(*args, **(kwargs or {}))

    with Recording():
        for width in range(1, 129):
            assert len(matmul_int8(rows(width, 256), packed)) == width
    assert 1 in met
    assert len(met) < 20


def test_the_norm_is_taken_in_by_the_rows_scale() -> None:
    packed, _, _ = weight(48, 256)
    x, norm = rows(9, 256), torch.rand(256) + 0.5
    found = rms_norm_matmul_int8(x, norm, packed, 1e-5)
    wanted = matmul_int8(rms_norm(x, norm, 1e-5), packed)
    error = (found - wanted).norm(dim=1) / (wanted.norm(dim=1) + 1e-9)
    assert (error < 2e-2).all(), "bytes may be rounded the other way now and then, no more"


def test_a_forced_reference_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "reference")
    packed, _, _ = weight(48, 256)
    assert not available()
    assert not packed.packed.is_mkldnn


def test_two_bytes_round_a_hundredth_as_much() -> None:
    """Against the exact product with the rounded weights; a row does not depend on the others."""
    generator = torch.Generator().manual_seed(3)
    weight = quantise(torch.randn(48, 64, generator=generator))
    x = torch.randn(5, 64, generator=generator)
    x[:, 7] *= 40
    exact, packed = x @ weight.dequantise(torch.float32).T, pack_int8(weight)
    coarse, fine = (product(x, packed) for product in (matmul_int8, matmul_int8_fine))
    assert (fine - exact).norm() < 0.01 * (coarse - exact).norm()
    assert torch.equal(matmul_int8_fine(x[2:3], packed), fine[2:3])
