"""The canvas: masks become tokens, each with its confidence and age."""

import pytest
import torch
from fim_kernels.types import TokenScores
from fim_model.decoding.canvas import Canvas

MASK, EOM = 99, 7


def flags(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers).bool()


def opened() -> Canvas:
    return Canvas.open(5, 0.5, 4, MASK)


def test_a_block_opens_with_its_seed() -> None:
    canvas = opened()
    assert canvas.tokens.tolist() == [5, MASK, MASK, MASK]
    assert canvas.masked.tolist() == [False, True, True, True]
    assert canvas.confidence.tolist() == [0.5, 0, 0, 0]
    assert canvas.age.tolist() == [0, 0, 0, 0]


def test_commit_changes_only_the_given_positions() -> None:
    canvas = opened()
    canvas.commit(flags(0, 0, 1, 0), torch.arange(10, 14), torch.full((4,), 0.25))
    assert canvas.tokens.tolist() == [5, MASK, 12, MASK]
    assert canvas.masked.tolist() == [False, True, False, True]
    assert canvas.confidence.tolist() == [0.5, 0, 0.25, 0]


def test_age_counts_the_forwards_since_a_token_was_committed() -> None:
    canvas = opened()
    for where in (flags(0, 0, 1, 0), flags(0, 1, 0, 0), flags(0, 0, 0, 1)):
        canvas.commit(where, torch.zeros(4, dtype=torch.int64), torch.zeros(4))
    assert canvas.age.tolist() == [3, 1, 2, 0]


def test_scores_of_the_masks_are_spread_to_their_positions() -> None:
    canvas = opened()
    canvas.commit(flags(0, 0, 1, 0), torch.full((4,), 3), torch.ones(4))
    rows = TokenScores(torch.tensor([11, 13]), torch.tensor([0.1, 0.3]), torch.tensor([2.0, 4.0]))
    spread = canvas.spread(rows)
    assert spread.token.tolist() == [0, 11, 0, 13]
    assert spread.confidence.tolist() == pytest.approx([0, 0.1, 0, 0.3])
    assert spread.entropy.tolist() == [0, 2, 0, 4]


@pytest.mark.parametrize(
    ("tokens", "masked", "end"),
    [
        ([5, 6, 8, 9], [0, 0, 0, 0], None),
        ([5, 6, EOM, 9], [0, 0, 0, 0], 2),
        ([5, 6, EOM, EOM], [0, 0, 0, 0], 2),
        ([5, 6, EOM, MASK], [0, 0, 0, 1], 2),
        ([5, MASK, EOM, 9], [0, 1, 0, 0], None),
        ([5, EOM, MASK, EOM], [0, 0, 1, 0], 1),
        ([5, MASK, MASK, MASK], [0, 1, 1, 1], None),
    ],
)
def test_the_end_is_settled_when_no_mask_is_before_it(
    tokens: list[int], masked: list[int], end: int | None
) -> None:
    canvas = opened()
    canvas.tokens, canvas.masked = torch.tensor(tokens), flags(*masked)
    assert canvas.settled_end(EOM) == end
