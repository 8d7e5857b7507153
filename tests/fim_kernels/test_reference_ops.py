"""The reference operations in PyTorch against naive float64 implementations."""

import itertools
import math

import pytest
import torch
from fim_kernels.attention import attend, causal_mask, share_heads
from fim_kernels.rms_norm import rms_norm
from fim_kernels.rotary import apply_rotary
from fim_kernels.swiglu import swiglu
from fim_kernels.token_scores import score_tokens
from torch import Tensor


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def assert_near(found: Tensor, wanted: Tensor, tolerance: float = 2e-6) -> None:
    """Bound the largest difference relative to the largest value. Fails on NaN."""
    assert found.shape == wanted.shape
    worst = (found.double() - wanted.double()).abs().max().item()
    assert worst <= tolerance * max(1.0, wanted.abs().max().item())


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 4, 33)])
def test_rms_norm_divides_by_the_root_mean_square(shape: tuple[int, ...]) -> None:
    x, weight, eps = normal(*shape, seed=1, scale=3.0), normal(shape[-1], seed=2), 1e-2
    wide = x.double()
    wanted = wide / ((wide**2).sum(-1, keepdim=True) / shape[-1] + eps).sqrt() * weight.double()
    assert_near(rms_norm(x, weight, eps), wanted)


def test_rms_norm_of_zeros_is_zero() -> None:
    assert not rms_norm(torch.zeros(2, 4), torch.ones(4), 1e-5).any()


def test_rms_norm_keeps_the_dtype_and_accumulates_in_a_wider_one() -> None:
    """The squares of these numbers overflow float16; the mean must be computed without that."""
    x = torch.full((1, 8), 300.0, dtype=torch.float16)
    found = rms_norm(x, torch.full((8,), 2.0), 1e-5)
    assert found.dtype == torch.float16
    assert found.tolist() == [[2.0] * 8]


def test_rms_norm_rounds_before_the_weight_is_applied() -> None:
    x, weight = normal(4, 64, seed=3).bfloat16(), normal(64, seed=4).bfloat16()
    wide = x.float()
    normalised = (wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()).bfloat16()
    assert torch.equal(rms_norm(x, weight, 1e-5), normalised * weight)


@pytest.mark.parametrize(("heads", "width", "dim"), [(1, 1, 2), (3, 5, 8), (2, 7, 16)])
def test_rotary_turns_each_pair_by_its_angle(heads: int, width: int, dim: int) -> None:
    x = normal(2, heads, width, dim, seed=5)
    angle = normal(2, width, dim // 2, seed=6, scale=4.0)
    both = torch.cat((angle, angle), dim=-1)
    found = apply_rotary(x, both.cos(), both.sin())

    wanted = torch.empty_like(x, dtype=torch.float64)
    for place in itertools.product(range(2), range(heads), range(width), range(dim // 2)):
        batch, head, at, pair = place
        turn = float(angle[batch, at, pair])
        first, second = float(x[place]), float(x[batch, head, at, pair + dim // 2])
        wanted[place] = first * math.cos(turn) - second * math.sin(turn)
        wanted[batch, head, at, pair + dim // 2] = first * math.sin(turn) + second * math.cos(turn)
    assert_near(found, wanted)


def test_swiglu_gates() -> None:
    gate, up = normal(3, 9, seed=7, scale=4.0), normal(3, 9, seed=8)
    wanted = gate.double() / (1 + (-gate.double()).exp()) * up.double()
    assert_near(swiglu(gate, up), wanted)


def naive_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Attention one query at a time over its visible keys; visible `[B, T, S]`."""
    heads, groups = query.shape[1], key.shape[1]
    found = torch.empty_like(query, dtype=torch.float64)
    for batch, head, at in itertools.product(*map(range, query.shape[:3])):
        group = head // (heads // groups)
        seen = visible[batch, at].nonzero().squeeze(1)
        keys, values = key[batch, group, seen].double(), value[batch, group, seen].double()
        scores = keys @ query[batch, head, at].double() / math.sqrt(query.shape[-1])
        weights = (scores - scores.max()).exp()
        found[batch, head, at] = (weights / weights.sum()) @ values
    return found


HEADS = [(1, 1), (4, 4), (4, 2), (6, 1)]
WIDTHS = [(1, 1), (1, 9), (2, 2), (2, 6), (5, 5), (5, 12)]


@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize(("width", "span"), WIDTHS)
@pytest.mark.parametrize("causal", [True, False])
def test_attention_of_the_last_queries(
    heads: int, groups: int, width: int, span: int, causal: bool
) -> None:
    query = normal(2, heads, width, 8, seed=9, scale=2.0)
    key, value = normal(2, groups, span, 8, seed=10, scale=2.0), normal(2, groups, span, 8, seed=11)
    visible = torch.ones(2, width, span, dtype=torch.bool)
    if causal:
        for at in range(width):
            visible[:, at, span - width + at + 1 :] = False
    found = attend(query, key, value, causal=causal)
    assert_near(found, naive_attention(query, key, value, visible))


@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_mask_replaces_causality(heads: int, groups: int, causal: bool, rows: int) -> None:
    query = normal(2, heads, 4, 8, seed=12)
    key, value = normal(2, groups, 7, 8, seed=13), normal(2, groups, 7, 8, seed=14)
    mask = normal(rows, 1, 4, 7, seed=15) > 0
    mask[..., 3] = True  # every query has a visible key
    found = attend(query, key, value, causal=causal, mask=mask)
    assert_near(found, naive_attention(query, key, value, mask[:, 0].expand(2, 4, 7)))


def test_causal_mask_of_a_width_over_a_span() -> None:
    assert causal_mask(2, 4, torch.device("cpu")).int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]]]


def test_heads_of_a_group_share_its_keys() -> None:
    key = normal(1, 2, 3, 4)
    shared = share_heads(key, 6)
    for head in range(6):
        assert torch.equal(shared[:, head], key[:, head // 3])


@pytest.mark.parametrize(("rows", "vocabulary", "scale"), [(1, 2, 1.0), (5, 33, 3.0), (4, 500, 20)])
def test_token_scores(rows: int, vocabulary: int, scale: float) -> None:
    logits = normal(rows, vocabulary, seed=16, scale=scale)
    scores = score_tokens(logits)
    for row in range(rows):
        wide = logits[row].double()
        probabilities = (wide - wide.max()).exp()
        probabilities /= probabilities.sum()
        entropy = -sum(p * math.log(p) for p in probabilities.tolist() if p)
        assert int(scores.token[row]) == int(wide.argmax())
        assert float(scores.confidence[row]) == pytest.approx(float(probabilities.max()), rel=1e-5)
        assert float(scores.entropy[row]) == pytest.approx(entropy, rel=1e-4, abs=1e-5)


def test_token_scores_of_extreme_rows() -> None:
    """A token with probability 1, a uniform row, and logits whose exponentials overflow."""
    logits = torch.tensor([[100.0, 0, 0, 0], [7.0, 7, 7, 7], [3e4, 3e4, 0, 0]])
    scores = score_tokens(logits)
    assert scores.confidence.tolist() == pytest.approx([1, 0.25, 0.5])
    assert scores.entropy.tolist() == pytest.approx([0, math.log(4), math.log(2)], abs=1e-2)
    assert (scores.entropy >= 0).all()


def test_token_scores_are_taken_in_float32() -> None:
    logits = normal(3, 64, seed=17, scale=3.0).bfloat16()
    narrow, wide = score_tokens(logits), score_tokens(logits.float())
    assert narrow.confidence.dtype == torch.float32
    assert torch.equal(narrow.confidence, wide.confidence)
    assert torch.equal(narrow.entropy, wide.entropy)
