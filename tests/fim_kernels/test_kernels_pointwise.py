"""Norm, rotary, activation and commit kernels against their references."""

import pytest
import torch
from fim_kernels.commit import commit_confident, commit_confident_reference
from fim_kernels.rms_norm import (
    add_rms_norm,
    add_rms_norm_reference,
    rms_norm,
    rms_norm_reference,
)
from fim_kernels.rotary import (
    apply_rotary,
    apply_rotary_reference,
    rotate_into_cache,
    rotate_into_cache_reference,
)
from fim_kernels.swiglu import swiglu, swiglu_reference
from fim_kernels.types import DeviceCanvas, TokenScores
from kernel_checks import NAN, assert_close, normal, padded, rows_padded
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 8), (3, 5, 48), (2, 300)])
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    x = padded(normal(*shape, seed=1, dtype=dtype, device=device) * 3)
    weight = normal(shape[-1], seed=2, dtype=dtype, device=device)
    assert_close(rms_norm(x, weight, 1e-3), rms_norm_reference(x, weight, 1e-3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_and_rms_norm(dtype: torch.dtype, device: torch.device) -> None:
    x = padded(normal(2, 4, 72, seed=3, dtype=dtype, device=device))
    residual = padded(normal(2, 4, 72, seed=4, dtype=dtype, device=device) * 2)
    weight = normal(72, seed=5, dtype=dtype, device=device)
    found, total = add_rms_norm(x, residual, weight, 1e-5)
    wanted, wanted_total = add_rms_norm_reference(x, residual, weight, 1e-5)
    assert torch.equal(total, wanted_total)
    assert_close(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_of_the_halves_of_one_projection(dtype: torch.dtype, device: torch.device) -> None:
    both = rows_padded(normal(5, 2 * 1100, seed=6, dtype=dtype, device=device) * 4)
    gate, up = both.chunk(2, dim=-1)
    assert_close(swiglu(gate, up), swiglu_reference(gate, up))
    gate, up = gate.unflatten(-1, (2, 550)).transpose(0, 1), up.unflatten(-1, (2, 550))
    up = up.transpose(0, 1)
    assert_close(swiglu(gate, up), swiglu_reference(gate, up))


def angles(batch: int, width: int, dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    half = normal(batch, width, dim // 2, seed=7, dtype=torch.float32, device=device) * 4
    return torch.cat((half, half), dim=-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [8, 24, 64])
def test_rotary(dim: int, dtype: torch.dtype, device: torch.device) -> None:
    x = padded(normal(2, 3, 5, dim, seed=8, dtype=dtype, device=device))
    angle = angles(2, 5, dim, dtype, device)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    exact = apply_rotary_reference(x.double(), cos.double(), sin.double())
    assert_close(apply_rotary(x, cos, sin), exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_rotate_into_cache(scaled: bool, dtype: torch.dtype, device: torch.device) -> None:
    """Sequences of the batch differ in length; the rest of the cache is not written."""
    batch, heads, groups, width, dim, capacity = 2, 3, 2, 4, 24, 11

    def tokens(count: int, seed: int) -> Tensor:
        x = normal(batch, width, count, dim, seed=seed, dtype=dtype, device=device)
        return padded(x).transpose(1, 2)  # the model's layout: tokens before heads

    query, key, value = tokens(heads, 9), tokens(groups, 10), tokens(groups, 11)
    angle = angles(batch, width, dim, dtype, device)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    scale = None
    if scaled:
        scale = normal(batch, 1, width, 1, seed=12, dtype=dtype, device=device).abs() + 1
    start = torch.tensor([0, 6], dtype=torch.int32, device=device)
    shape = (batch, groups, capacity, dim)
    keys, values = (torch.full(shape, 7.0, dtype=dtype, device=device) for _ in range(2))
    found = rotate_into_cache(query, key, value, cos, sin, keys, values, start, scale)

    wide = [x.double() for x in (query, key, value, cos, sin)]
    wanted_keys, wanted_values = (
        torch.full(shape, 7.0, dtype=torch.float64, device=device) for _ in range(2)
    )
    wide_scale = scale.double() if scale is not None else None
    wanted = rotate_into_cache_reference(*wide, wanted_keys, wanted_values, start, wide_scale)
    assert_close(found, wanted)
    assert_close(keys, wanted_keys)
    assert torch.equal(values.double(), wanted_values)
    assert (keys[0, :, width:] == 7).all()
    assert (keys[1, :, :6] == 7).all()


def canvas(masked: Tensor, mask_id: int, device: torch.device) -> DeviceCanvas:
    found = DeviceCanvas.empty(*masked.shape, device)
    found.tokens.copy_(torch.where(masked, mask_id, 5))
    found.masked.copy_(masked)
    found.confidence.copy_((~masked).float() * 0.5)
    found.age.copy_((~masked).long() * 3)
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.0])
def test_commit_equals_its_reference(threshold: float, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(13)
    masked = torch.rand(6, 11, generator=generator) < 0.6
    masked[0], masked[1] = False, True
    confidence = torch.rand(6, 11, generator=generator)
    confidence[2] = 0.25  # all equal: exactly one is committed below the threshold
    token = torch.randint(0, 99, (6, 11), generator=generator)
    unread = torch.where(masked, confidence, NAN)
    scores = TokenScores(token.to(device), unread.to(device), unread.to(device))
    found = canvas(masked.to(device), 1, device)
    wanted = canvas(masked.to(device), 1, device)
    left = commit_confident(found, scores, threshold)
    clean = TokenScores(token.to(device), confidence.to(device), confidence.to(device))
    wanted_left = commit_confident_reference(wanted, clean, threshold)
    assert left.tolist() == wanted_left.tolist()
    for name in ("tokens", "masked", "confidence", "age"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name


def test_every_commit_makes_progress_until_no_mask_is_left(device: torch.device) -> None:
    block = DeviceCanvas.empty(1, 6, device)
    block.open(torch.tensor([42], device=device), torch.tensor([0.75], device=device), mask_id=1)
    assert block.tokens.tolist() == [[42, 1, 1, 1, 1, 1]]
    flat = torch.full((1, 6), 1e-9, device=device)
    token = torch.arange(10, 16, device=device)[None]
    left = [int(commit_confident(block, TokenScores(token, flat, flat), 0.9)[0]) for _ in range(6)]
    assert left == [4, 3, 2, 1, 0, 0]
    assert block.tokens.tolist() == [[42, 11, 12, 13, 14, 15]]
    assert block.age.tolist() == [[6, 5, 4, 3, 2, 1]]
