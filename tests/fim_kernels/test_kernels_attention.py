"""The attention kernel against masked attention in float64, for every attention pattern."""

from importlib import import_module

import pytest
import torch
from fim_kernels.attention import attend, attend_reference, speculation_visible, visible
from kernel_checks import NAN, assert_close, normal, padded
from torch import Tensor

pytest.importorskip("triton", reason="Triton has no wheel for this system")
attend_triton = import_module("fim_kernels.attention_triton").attend_triton

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def tensors(
    batch: int, heads: int, groups: int, width: int, keys: int, dim: int,
    dtype: torch.dtype, device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    query = normal(batch, heads, width, dim, seed=1, dtype=dtype, device=device)
    key = normal(batch, groups, keys, dim, seed=2, dtype=dtype, device=device)
    value = normal(batch, groups, keys, dim, seed=3, dtype=dtype, device=device)
    return padded(query), padded(key), padded(value)


def exact(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    key, value = key.nan_to_num(), value.nan_to_num()
    return attend_reference(query.double(), key.double(), value.double(), causal=False, mask=mask)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("heads", "groups", "width", "keys", "dim", "splits"),
    [(4, 2, 1, 130, 16, 2), (4, 1, 7, 200, 40, 4), (2, 2, 20, 20, 32, 1), (6, 2, 12, 139, 64, 1)],
)
def test_attention(
    heads: int, groups: int, width: int, keys: int, dim: int,
    splits: int, causal: bool, dtype: torch.dtype, device: torch.device,
) -> None:  # fmt: skip
    query, key, value = tensors(2, heads, groups, width, keys, dim, dtype, device)
    mask = visible(width, keys, device, causal=causal)
    found = attend_triton(query, key, value, causal=causal, splits=splits)
    assert_close(found, exact(query, key, value, mask))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("splits", [1, 4])
def test_span_lengths_in_device_memory(causal: bool, splits: int, device: torch.device) -> None:
    """Sequences differ in length; the cache after each is NaN and must not be read."""
    query, key, value = tensors(3, 4, 2, 5, 260, 32, torch.float32, device)
    spans = [5, 77, 260]
    for row, span in enumerate(spans):
        key[row, :, span:] = NAN
        value[row, :, span:] = NAN
    span = torch.tensor(spans, dtype=torch.int32, device=device)
    mask = visible(5, 260, device, causal=causal, span=span)
    found = attend_triton(query, key, value, causal=causal, span=span, splits=splits)
    assert_close(found, exact(query, key, value, mask))
    for row, length in enumerate(spans):
        alone = attend_reference(
            *(x[row : row + 1] for x in (query, key[:, :, :length], value[:, :, :length])),
            causal=causal,
        )
        assert_close(found[row : row + 1], alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "row_length", "past"), [(4, 5, 70), (2, 3, 131)])
def test_rows_of_quadratic_self_speculation(
    rows: int, row_length: int, past: int, dtype: torch.dtype, device: torch.device
) -> None:
    width = rows * row_length
    query, key, value = tensors(1, 4, 2, width, past + width, 16, dtype, device)
    mask = visible(width, past + width, device, causal=False, row_length=row_length)
    found = attend(query, key, value, causal=False, row_length=row_length)
    assert_close(found, exact(query, key, value, mask))


def test_the_visibility_of_quadratic_self_speculation() -> None:
    """Written out for rows `h0 m m | h1 m m`, one line per query."""
    place = torch.arange(6)
    seen = speculation_visible(place[:, None], place[None], 3).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 1, 1],
        [1, 0, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_any_mask(shared: bool, device: torch.device) -> None:
    query, key, value = tensors(2, 4, 2, 9, 100, 16, torch.float32, device)
    generator = torch.Generator().manual_seed(4)
    mask = torch.rand(1 if shared else 2, 1, 9, 100, generator=generator).to(device) < 0.3
    mask[..., 64:] = False  # no query attends to a key of the second tile
    mask[..., 3] = True
    found = attend(query, key, value, causal=True, mask=mask)
    assert_close(found, exact(query, key, value, mask))


def test_a_mask_cannot_be_combined_with_another_pattern(device: torch.device) -> None:
    query, key, value = tensors(1, 1, 1, 2, 4, 16, torch.float32, device)
    mask = torch.ones(1, 1, 2, 4, dtype=torch.bool, device=device)
    with pytest.raises(ValueError, match="no row_length and no span"):
        attend(query, key, value, causal=False, mask=mask, row_length=2)


def test_large_scores_do_not_overflow(device: torch.device) -> None:
    query, key, value = tensors(1, 2, 1, 3, 90, 16, torch.float32, device)
    mask = visible(3, 90, device, causal=True)
    found = attend_triton(query * 300, key, value, causal=True, splits=2)
    assert_close(found, exact(query * 300, key, value, mask), 2e-5)


def test_the_reference_supports_spans_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "reference")
    cpu = torch.device("cpu")
    query, key, value = tensors(1, 4, 2, 6, 40, 16, torch.float32, cpu)
    span = torch.tensor([30], dtype=torch.int32)
    found = attend(query, key, value, causal=True, span=span)
    assert_close(found, attend(query, key[:, :, :30], value[:, :, :30], causal=True))
    rows = attend(query, key, value, causal=False, row_length=3)
    assert_close(rows, exact(query, key, value, visible(6, 40, cpu, causal=False, row_length=3)))
