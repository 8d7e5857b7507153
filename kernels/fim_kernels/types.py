"""What operations take and return: shared by each operation and its Triton kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Per row of logits; every tensor `[...]` without the vocabulary dimension.

    token: arg-max id, int64. confidence: its probability. entropy: in nats.
    """

    token: Tensor
    confidence: Tensor
    entropy: Tensor


@dataclass(frozen=True, slots=True)
class FullScores(TokenScores):
    """margin: confidence minus the probability of the runner-up. log_sum_exp: of the logits."""

    margin: Tensor
    log_sum_exp: Tensor


@dataclass(frozen=True, slots=True)
class DeviceCanvas:
    """N blocks of B positions in buffers that never move, so that a CUDA graph can own them.

    tokens: int64 `[N, B]`; masked: bool `[N, B]`; confidence: float32 `[N, B]`, the probability a
    token was committed with (0 for masks); age: int64 `[N, B]`, forwards since it was committed.
    """

    tokens: Tensor
    masked: Tensor
    confidence: Tensor
    age: Tensor

    @classmethod
    def empty(cls, blocks: int, size: int, device: torch.device | str) -> DeviceCanvas:
        def zeros(dtype: torch.dtype) -> Tensor:
            return torch.zeros(blocks, size, dtype=dtype, device=device)

        return cls(zeros(torch.int64), zeros(torch.bool), zeros(torch.float32), zeros(torch.int64))

    def open(self, seed: Tensor, confidence: Tensor, mask_id: int) -> None:
        """Start over as `[seed, MASK x (B - 1)]`; seed, confidence: `[N]` on the device."""
        self.tokens.fill_(mask_id)
        self.masked.fill_(True)
        self.confidence.zero_()
        self.age.zero_()
        self.tokens[:, 0], self.confidence[:, 0] = seed, confidence
        self.masked[:, 0] = False


@dataclass(frozen=True, slots=True)
class Weight8Bit:
    """values: int8 or float8_e4m3fn `[N, K]`, rows contiguous; scale: float32 `[N]`, for int8 also
    as bfloat16, exactly."""

    values: Tensor
    scale: Tensor
    scale_bf16: Tensor | None = None

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """`[N, K]` in `dtype`."""
        return (self.values.to(torch.float32) * self.scale[:, None]).to(dtype)
