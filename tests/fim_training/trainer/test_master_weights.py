"""Float32 master weights of a bf16 model: small updates accumulate, nothing else changes."""

from __future__ import annotations

import pytest
import torch
from fim_training.trainer.master_weights import MasterWeights
from torch import nn


@pytest.fixture
def model() -> nn.Module:
    """A trained bf16 matrix, a trained float32 one, and a frozen bias."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    made[0].weight.data = made[0].weight.data.bfloat16()
    made[0].bias.requires_grad_(False)
    return made


def narrow(model: nn.Module) -> nn.Parameter:
    weight = model.get_parameter("0.weight")
    assert weight.dtype == torch.bfloat16
    return weight


def test_masters_are_float32_copies_of_trained_parameters(model: nn.Module) -> None:
    weights = MasterWeights(model)
    masters = dict(weights)
    assert masters.keys() == {"0.weight", "1.weight"}
    assert all(master.dtype == torch.float32 for master in masters.values())
    assert torch.equal(masters["0.weight"], narrow(model).float())
    assert weights.count() == 3 * 4 + 4 * 2


def test_a_float32_parameter_is_its_own_master(model: nn.Module) -> None:
    assert dict(MasterWeights(model))["1.weight"] is model.get_parameter("1.weight")


def test_updates_below_bf16_precision_accumulate(model: nn.Module) -> None:
    """A hundred steps of 1/1000 around 1, where bf16 numbers are 1/128 apart."""
    narrow(model).data.fill_(1.0)
    alone = narrow(model).detach().clone()
    weights = MasterWeights(model)
    optimizer = torch.optim.SGD([master for _, master in weights], lr=1e-3)
    for _ in range(100):
        narrow(model).grad = -torch.ones_like(narrow(model))
        weights.add_gradients()
        optimizer.step()
        optimizer.zero_grad()
        weights.publish()
        alone += 1e-3
    assert torch.equal(alone, torch.ones_like(alone))
    torch.testing.assert_close(dict(weights)["0.weight"].detach(), torch.full((4, 3), 1.1))
    assert torch.equal(narrow(model), torch.full((4, 3), 1.1).bfloat16())


def test_gradients_move_to_the_masters_and_accumulate(model: nn.Module) -> None:
    weights = MasterWeights(model)
    for value in (1.0, 0.001):  # their sum is not representable in bf16
        narrow(model).grad = torch.full((4, 3), value, dtype=torch.bfloat16)
        learning = weights.add_gradients()
        assert narrow(model).grad is None
    small = torch.tensor(0.001).bfloat16().float()
    assert learning[0] is dict(weights)["0.weight"]
    assert torch.equal(learning[0].grad, torch.full((4, 3), 1.0) + small)


def test_a_float32_gradient_is_left_in_place(model: nn.Module) -> None:
    weights = MasterWeights(model)
    own = model.get_parameter("1.weight")
    own.grad = torch.ones_like(own)
    weights.add_gradients()
    assert torch.equal(own.grad, torch.ones_like(own))


def test_a_parameter_without_a_gradient_is_skipped(model: nn.Module) -> None:
    assert all(master.grad is None for master in MasterWeights(model).add_gradients())


def test_saved_tensors_restore_masters_and_model(model: nn.Module) -> None:
    weights = MasterWeights(model)
    saved = {name: tensor + 0.3 for name, tensor in weights.tensors().items()}
    weights.restore(saved)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in weights.tensors().items())
    assert torch.equal(narrow(model), saved["0.weight"].bfloat16())
    assert torch.equal(model.get_parameter("1.weight"), saved["1.weight"])
