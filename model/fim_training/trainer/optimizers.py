"""Which parameter learns by what, and how fast.

Hidden matrices by Muon (torch.optim.Muon, Jordan et al. 2024), embeddings, norms and low-rank
updates by AdamW.
"""

from __future__ import annotations

import torch
from fim_model.network.transformer import TriModeTransformer

from fim_training.trainer.train_config import TrainConfig


def build_optimizers(model: TriModeTransformer, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """One optimizer or two; `initial_lr` of a group is what the schedule scales."""
    learning = [p for p in model.parameters() if p.requires_grad]
    # Muon is for matrices that mix many directions; a thin one is better served by AdamW.
    hidden = [] if config.lora_rank else list(model.model.layers.parameters())
    matrices = [p for p in hidden if p.ndim == 2 and p.requires_grad]
    chosen = {id(p) for p in matrices}
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices, lr=config.matrix_lr, momentum=0.95, weight_decay=config.weight_decay
            )
        )
    others = [p for p in learning if id(p) not in chosen]
    optimizers.append(
        torch.optim.AdamW(
            others, lr=config.vector_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def learning_rate_scale(step: int, left: float, config: TrainConfig) -> float:
    """Warm up, hold, then fall linearly to zero over the last `cooldown` share (WSD schedule).

    step: how many were done since the optimizers began to remember; left: share of the run's budget
    that is not spent, 1 to 0.
    """
    return max(0.0, min(1.0, (step + 1) / config.warmup, left / config.cooldown))


def set_rates(optimizers: list[torch.optim.Optimizer], scale: float) -> None:
    """Scale the rate of every group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * scale
