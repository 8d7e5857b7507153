"""The low-rank update of some diffusion checkpoints for drafting (`linear_spec_lora/`).

PEFT's file layout: an adapter's config and its two thin matrices for each layer's `o_proj`, which
becomes `W + alpha / r * B A` (LoRA, arXiv 2106.09685). It makes drafts likelier to be accepted; it
must not touch a verification, whose logits are the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DraftLora:
    """down: per layer `[r, heads * head_dim]` (PEFT's A); up: `[hidden_size, r]` (B).

    scale: alpha / r.
    """

    down: tuple[Tensor, ...]
    up: tuple[Tensor, ...]
    scale: float

    def update(self, layer: int, x: Tensor) -> Tensor:
        """`alpha / r * B A x`: what is added to o_proj's output for its input x."""
        return F.linear(F.linear(x, self.down[layer]), self.up[layer]) * self.scale
