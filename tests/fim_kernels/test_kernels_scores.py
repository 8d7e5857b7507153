"""Scores of logits, and of the fused vocabulary projection, which never stores its logits."""

from importlib import import_module
from typing import Any

import pytest
import torch
from fim_kernels.lm_head import FUSED_ROWS, score_head
from fim_kernels.token_scores import score_all, score_all_reference, score_tokens
from fim_kernels.types import FullScores
from kernel_checks import NAN, assert_close, normal, rows_padded
from torch import Tensor

pytest.importorskip("triton", reason="Triton has no wheel for this system")
TileStatistics = import_module("fim_kernels.token_scores_triton").TileStatistics

FIELDS = ("confidence", "entropy", "margin", "log_sum_exp")


def assert_scores(found: FullScores, logits: Tensor, tolerance: float) -> None:
    """Compare with float64; entropy and margin by absolute error because of cancellation."""
    wanted = score_all_reference(logits.double())
    assert found.token.dtype == torch.int64
    assert found.token.tolist() == wanted.token.tolist()
    assert found.confidence.dtype == torch.float32
    for name in FIELDS:
        error = (getattr(found, name).double().cpu() - getattr(wanted, name).cpu()).abs().max()
        assert error <= tolerance, (name, float(error))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2,), (3, 100), (2, 2, 4096), (2, 9001)])
def test_one_pass_scores(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    logits = normal(*shape, seed=1, dtype=dtype, device=device) * 4
    found = score_all(logits)
    assert found.token.shape == shape[:-1]
    assert_scores(found, logits, 1e-5)
    assert torch.equal(score_tokens(logits).confidence, found.confidence)


def test_scores_of_ties_flat_and_certain_rows(device: torch.device) -> None:
    """The first of equal maxima wins, also across tiles; huge logits do not overflow."""
    logits = torch.zeros(4, 5000, device=device)
    logits[1, [4999, 4100, 17]] = 8.0
    logits[2, 4500] = 3e4
    logits[3] = -torch.inf
    logits[3, [4200, 100]] = torch.tensor([1.0, 0.0], device=device)
    found = score_all(logits)
    assert found.token.tolist() == [0, 17, 4500, 4200]
    assert found.margin.tolist()[:3] == pytest.approx([0, 0, 1])
    assert found.confidence.tolist()[2:] == pytest.approx([1, 1 / (1 + torch.e**-1)])
    assert float(found.entropy[0]) == pytest.approx(float(torch.tensor(5000.0).log()), rel=1e-5)
    assert float(found.entropy[3]) == pytest.approx(0.5822, abs=1e-3)


def test_a_row_of_nan_yields_an_id_within_the_vocabulary(device: torch.device) -> None:
    assert 0 <= int(score_all(torch.full((1, 70), NAN, device=device)).token[0]) < 70


def head(
    rows: int, vocabulary: int, size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    hidden = rows_padded(normal(rows, size, seed=2, dtype=dtype, device=device))
    weight = rows_padded(normal(vocabulary, size, seed=3, dtype=dtype, device=device) / 4)
    return hidden, weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("rows", "vocabulary", "size"), [(1, 128, 64), (5, 300, 72), (17, 129, 136)]
)
def test_head(
    rows: int, vocabulary: int, size: int, dtype: torch.dtype, device: torch.device
) -> None:
    hidden, weight = head(rows, vocabulary, size, dtype, device)
    assert_scores(score_head(hidden, weight), hidden.double() @ weight.double().T, 2e-5)


def test_head_of_selected_rows(device: torch.device) -> None:
    """Rows in any order; -1 is skipped, and its hidden state (NaN here) is not read."""
    hidden, weight = head(6, 200, 72, torch.float32, device)
    hidden[[0, 4]] = NAN
    rows = torch.tensor([5, -1, 2, -1, 1], device=device)
    found = score_head(hidden, weight, rows)
    read = torch.tensor([0, 2, 4], device=device)
    parts = (found.token, *(getattr(found, name) for name in FIELDS))
    picked = FullScores(*(part[read] for part in (parts[0], *parts[1:])))
    assert_scores(picked, hidden[[5, 2, 1]].double() @ weight.double().T, 2e-5)
    for part in parts:
        assert not part[[1, 3]].any()


def test_a_skipped_row_is_not_read(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """-1 must not be used as an address: the memory before the first row is NaN here."""
    buffer = normal(4, 64, seed=4, dtype=torch.float32, device=device)
    buffer[0] = NAN
    weight = normal(30, 64, seed=5, dtype=torch.float32, device=device)
    scratch: list[Any] = []
    combine = TileStatistics.combine

    def watched(self: Any, *args: Any) -> FullScores:
        scratch.append(self)
        return combine(self, *args)

    monkeypatch.setattr(TileStatistics, "combine", watched)
    score_head(buffer[1:], weight, torch.tensor([2, -1], device=device))
    assert scratch[0].stats.isfinite().all()


def test_head_of_more_rows_than_the_fused_limit(device: torch.device) -> None:
    count = FUSED_ROWS + 3
    hidden, weight = head(count, 40, 64, torch.float32, device)
    rows = torch.arange(count, device=device).flip(0)
    rows[7] = -1
    found = score_head(hidden, weight, rows)
    wanted = score_all_reference(hidden[rows.clamp_min(0)].double() @ weight.double().T)
    read = rows >= 0
    assert found.token[read].tolist() == wanted.token[read].tolist()
    assert_close(found.confidence[read], wanted.confidence[read], 1e-5)
    assert not found.confidence[~read].any()


def test_head_reference_agrees_with_the_kernel(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, weight = head(5, 300, 72, torch.float32, device)
    rows = torch.tensor([3, -1, 0], device=device)
    fused = score_head(hidden, weight, rows)
    monkeypatch.setenv("FIM_KERNELS", "reference")
    plain = score_head(hidden, weight, rows)
    assert fused.token.tolist() == plain.token.tolist()
    for name in FIELDS:
        assert_close(getattr(fused, name), getattr(plain, name), 1e-5)
