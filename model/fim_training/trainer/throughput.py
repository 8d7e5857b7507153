"""Arithmetic of a training step, and the matrix rate of a device."""

from __future__ import annotations

import time

import torch
from fim_model.loading.headers import parameter_count
from fim_model.network.config import ModelConfig

BACKWARD = 2
"""A backward costs two forwards: gradients of the inputs and of the weights."""


def step_flops(config: ModelConfig, rows: int, clean: int, noisy: int, targets: int) -> float:
    """Useful floating point operations of a step: matrix products only, nothing computed twice.

    clean, noisy: positions of a row; targets: positions of the batch that meet the vocabulary.
    Attention counts the pairs that see each other, with noisy positions taken to see half of the
    clean ones.
    """
    vocabulary = config.vocab_size * config.hidden_size
    tables = 1 if config.tie_word_embeddings else 2
    layers = parameter_count(config) - tables * vocabulary
    pairs = rows * (clean * clean / 2 + noisy * (clean / 2 + config.block_size))
    wide = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    forward = 2 * (layers * rows * (clean + noisy) + vocabulary * targets + 2 * pairs * wide)
    return (1 + BACKWARD) * forward


def measured_matrix_rate(device: torch.device, size: int = 8192, rounds: int = 20) -> float:
    """Operations per second of a bf16 matrix product, measured on the device itself."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    b = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ b
    _wait(device)
    began = time.perf_counter()
    for _ in range(rounds):
        a @ b
    _wait(device)
    return rounds * 2 * size**3 / (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
