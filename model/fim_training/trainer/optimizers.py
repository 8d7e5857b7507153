"""Optimizers by kind of parameter, and the learning rate schedule.

From nothing: hidden matrices by Muon (torch.optim.Muon, Jordan et al. 2024), embeddings and norms
by AdamW. From a base, which was trained by AdamW: everything by AdamW, matrices at their own rate.
"""

from __future__ import annotations

import torch

from fim_training.trainer.master_weights import MasterWeights
from fim_training.trainer.train_config import TrainConfig


def build_optimizers(weights: MasterWeights, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """One optimizer or two; `initial_lr` of a group is what the schedule scales."""
    matrices = [p for name, p in weights if ".layers." in name and p.ndim == 2]
    others = [p for name, p in weights if not (".layers." in name and p.ndim == 2)]
    optimizers: list[torch.optim.Optimizer] = []
    if config.base:
        groups = [
            {"params": matrices, "lr": config.matrix_lr, "weight_decay": config.weight_decay},
            {"params": others, "lr": config.vector_lr, "weight_decay": 0.0},
        ]
        full = [group for group in groups if group["params"]]
        optimizers.append(torch.optim.AdamW(full, betas=(0.9, 0.98), fused=True))
    else:
        muon = torch.optim.Muon(
            matrices, lr=config.matrix_lr, momentum=0.95, weight_decay=config.weight_decay
        )
        adam = torch.optim.AdamW(
            others, lr=config.vector_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        optimizers += [muon, adam]
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
