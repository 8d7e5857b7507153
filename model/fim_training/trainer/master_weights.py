"""Float32 master copies of the weights that learn in a bf16 model.

The model computes in bf16 without casts; small updates, which bf16 would round away, accumulate in
the masters (mixed-precision training, arXiv 1710.03740).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class MasterWeights:
    """The trainable parameters by name: a float32 copy of each that is narrower."""

    def __init__(self, model: nn.Module) -> None:
        self._own = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._masters = {
            name: p if p.dtype == torch.float32 else nn.Parameter(p.detach().float())
            for name, p in self._own.items()
        }

    def __iter__(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and masters."""
        return iter(self._masters.items())

    def tensors(self) -> dict[str, Tensor]:
        """The masters by name, detached."""
        return {name: master.detach() for name, master in self._masters.items()}

    def count(self) -> int:
        """The number of trainable values."""
        return sum(master.numel() for master in self._masters.values())

    def add_gradients(self) -> list[nn.Parameter]:
        """Move the model's gradients to the masters, adding them up; returns the masters."""
        for name, own in self._own.items():
            master = self._masters[name]
            if master is own or own.grad is None:
                continue
            if master.grad is None:
                master.grad = own.grad.float()
            else:
                master.grad += own.grad
            own.grad = None
        return list(self._masters.values())

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model, rounded to its dtype."""
        for name, own in self._own.items():
            if self._masters[name] is not own:
                own.copy_(self._masters[name])

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Set masters and model to saved values."""
        for name, master in self._masters.items():
            master.copy_(tensors[name])
        self.publish()
