"""Packed weights: the product equals the plain one and does not depend on other rows."""

import pytest
import torch
from fim_kernels.matmul_packed import (
    matmul_packed,
    matmul_packed_reference,
    pack,
    prepared_rows,
)
from kernel_checks import assert_close, normal, rows_padded

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
WIDTHS = (1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 72)

NO_ONEDNN = "this build of PyTorch has no oneDNN for the dtype: weights stay as they are"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "depth"), [(48, 256), (65, 704), (20, 40), (300, 16)])
@pytest.mark.parametrize("extras", [False, True])
def test_the_product_equals_the_plain_one(
    channels: int, depth: int, extras: bool, dtype: torch.dtype
) -> None:
    weight = normal(channels, depth, seed=1, dtype=dtype, device=CPU)
    bias = normal(channels, seed=2, dtype=dtype, device=CPU) if extras else None
    for width in (1, 5, 33):
        x = rows_padded(normal(width, depth, seed=3, dtype=dtype, device=CPU))
        added = normal(width, channels, seed=4, dtype=dtype, device=CPU) if extras else None
        given = (bias.double() if bias is not None else None,
                 added.double() if added is not None else None)  # fmt: skip
        exact = matmul_packed_reference(x.double(), weight.double(), *given)
        found = matmul_packed(x, pack(weight), bias, added)
        assert found.dtype == dtype
        assert_close(found, exact)
        assert_close(matmul_packed_reference(x, weight, bias, added), exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "depth"), [(512, 256), (256, 704), (65, 40)])
def test_a_row_does_not_depend_on_other_rows(channels: int, depth: int, dtype: torch.dtype) -> None:
    """Bit-identical; otherwise a draft verified in a block could differ from AR's token."""
    weight = pack(normal(channels, depth, seed=5, dtype=dtype, device=CPU))
    if not weight.is_mkldnn:
        pytest.skip(NO_ONEDNN)
    x = normal(max(WIDTHS), depth, seed=6, dtype=dtype, device=CPU)
    added = normal(max(WIDTHS), channels, seed=7, dtype=dtype, device=CPU)
    for more in (None, added):
        alone = [
            matmul_packed(x[i : i + 1], weight, None, None if more is None else more[i : i + 1])
            for i in range(len(x))
        ]
        for width in WIDTHS:
            part = None if more is None else more[:width]
            assert torch.equal(
                matmul_packed(x[:width], weight, None, part), torch.cat(alone)[:width]
            )


def test_leading_dimensions_are_kept() -> None:
    weight = normal(24, 32, seed=8, dtype=torch.float32, device=CPU)
    x = normal(2, 3, 32, seed=9, dtype=torch.float32, device=CPU)
    assert_close(matmul_packed(x, pack(weight)), matmul_packed_reference(x, weight))


def test_weights_that_cannot_be_packed_stay_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (torch.float64, torch.float16):
        weight = torch.ones(4, 4, dtype=dtype)
        assert pack(weight) is weight
    weight = torch.ones(4, 4)
    monkeypatch.setenv("FIM_KERNELS", "reference")
    assert pack(weight) is weight
    monkeypatch.delenv("FIM_KERNELS")
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    assert pack(weight) is weight
    assert torch.equal(matmul_packed(torch.eye(4), weight), weight)


def test_row_counts_are_padded_to_a_few_sizes() -> None:
    """oneDNN caches half a megabyte of code for each size."""
    prepared = {prepared_rows(count) for count in range(1, 513)}
    assert len(prepared) <= 22
    for count in range(1, 513):
        assert count <= prepared_rows(count) <= max(2 * count - 1, 1)
        assert prepared_rows(count) - count < 64
    assert [prepared_rows(count) for count in (0, 1, 2, 4)] == [0, 1, 2, 4]
