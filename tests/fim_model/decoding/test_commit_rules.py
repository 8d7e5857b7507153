"""Commit rules against brute-force implementations of their definitions.

The numbers are multiples of 1/64, so that sums and products are exact and both sides agree on
borderline cases.
"""

from __future__ import annotations

import pytest
import torch
from fim_kernels.types import TokenScores
from fim_model.decoding.commit_rules import (
    CommitRule,
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    Leftmost,
)
from hypothesis import given
from hypothesis import strategies as st

GRAIN = 64
shares = st.integers(0, GRAIN).map(lambda number: number / GRAIN)
entropies = st.integers(0, 3 * GRAIN).map(lambda number: number / GRAIN)
rows = st.lists(st.tuples(shares, entropies, st.booleans()), min_size=1, max_size=12).filter(
    lambda row: any(masked for _, _, masked in row)
)
Row = list[tuple[float, float, bool]]


def committed(rule: CommitRule, row: Row) -> list[int]:
    scores = TokenScores(
        token=torch.arange(len(row)),
        confidence=torch.tensor([confidence for confidence, _, _ in row]),
        entropy=torch.tensor([entropy for _, entropy, _ in row]),
    )
    chosen = rule(scores, torch.tensor([masked for _, _, masked in row]))
    assert chosen.dtype == torch.bool
    assert chosen.shape == (len(row),)
    return chosen.nonzero().flatten().tolist()


def masks(row: Row) -> list[int]:
    return [at for at, (_, _, masked) in enumerate(row) if masked]


@given(row=rows, threshold=shares)
def test_confidence_threshold(row: Row, threshold: float) -> None:
    found = committed(ConfidenceThreshold(threshold), row)
    sure = [at for at in masks(row) if row[at][0] >= threshold]
    if sure:
        assert found == sure
    else:
        assert len(found) == 1
        assert row[found[0]][0] == max(row[at][0] for at in masks(row))
        assert found[0] in masks(row)


@given(row=rows, eighths=st.integers(0, 24))
def test_factor(row: Row, eighths: int) -> None:
    """The n most confident, n the largest with (n + 1)(1 - c_n) < f; ties are interchangeable."""
    factor = eighths / 8
    found = committed(Factor(factor), row)
    ordered = sorted((row[at][0] for at in masks(row)), reverse=True)
    fitting = [n for n, c in enumerate(ordered, 1) if (n + 1) * (1 - c) < factor]
    count = max(fitting, default=1)
    assert set(found) <= set(masks(row))
    assert sorted((row[at][0] for at in found), reverse=True) == ordered[:count]


@given(row=rows, gamma=entropies)
def test_entropy_bound(row: Row, gamma: float) -> None:
    """The k masks of lowest entropy, k the largest with sum H - max H <= gamma."""
    found = committed(EntropyBound(gamma), row)
    ordered = sorted(row[at][1] for at in masks(row))
    fitting = [
        k for k in range(1, len(ordered) + 1) if sum(ordered[:k]) - max(ordered[:k]) <= gamma
    ]
    assert set(found) <= set(masks(row))
    assert sorted(row[at][1] for at in found) == ordered[: max(fitting)]


@given(row=rows, count=st.integers(1, 14))
def test_leftmost(row: Row, count: int) -> None:
    assert committed(Leftmost(count), row) == masks(row)[:count]


def test_leftmost_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        Leftmost(0)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        # c descending: .95 .9 .8 .3; (n+1)(1-c_n) = .1, .3, .8, 3.5
        (Factor(1.0), [0, 2, 4]),
        (Factor(0.5), [2, 4]),
        (ConfidenceThreshold(0.9), [2, 4]),
        (ConfidenceThreshold(0.99), [2]),
        # H ascending: .02 .08 .5 2.; sum - max = 0, .02, .1, .6
        (EntropyBound(0.01), [2]),
        (EntropyBound(0.05), [2, 4]),
        (EntropyBound(0.11), [0, 2, 4]),
        (Leftmost(2), [0, 1]),
    ],
)
def test_a_case_worked_out_by_hand(rule: CommitRule, wanted: list[int]) -> None:
    row = [(0.8, 0.5, True), (0.3, 2.0, True), (0.95, 0.02, True), (1.0, 0.0, False)]
    assert committed(rule, [*row, (0.9, 0.08, True)]) == wanted


def test_a_huge_entropy_does_not_lose_precision() -> None:
    """In float32, 5/64 + 3e6 - 3e6 is 0, but the sum without the maximum is 5/64."""
    row = [(0.9, 5 / GRAIN, True), (0.0, 3e6, True)]
    assert committed(EntropyBound(4 / GRAIN), row) == [0]
    assert committed(EntropyBound(5 / GRAIN), row) == [0, 1]


def test_the_last_mask_is_committed_at_any_confidence() -> None:
    row = [(1.0, 0.0, False), (0.01, 5.0, True)]
    for rule in (ConfidenceThreshold(1.0), Factor(0.0), EntropyBound(0.0), Leftmost()):
        assert committed(rule, row) == [1]
