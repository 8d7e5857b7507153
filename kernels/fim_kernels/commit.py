"""Commit selection and canvas update on the device: a block is denoised without a host round trip.

The rule is the confidence threshold of Fast-dLLM (arXiv 2505.22618) with guaranteed progress: every
mask with `confidence >= threshold`, and the most confident mask whatever its confidence (the first
of equals). Bytes moved: some hundred; what counts is the launch that is not waited for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fim_kernels.dispatch import use_triton
from fim_kernels.token_scores import TokenScores


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


def commit_confident(canvas: DeviceCanvas, scores: TokenScores, threshold: float) -> Tensor:
    """Turn the sure masks of every block into tokens, in place.

    scores: fields `[N * B]` or `[N, B]`, read only where masked. Returns the masks left in each
    block, int32 `[N]`, on the device.
    """
    if use_triton(canvas.tokens, scores.token, scores.confidence):
        from fim_kernels.commit_triton import commit_confident_triton

        return commit_confident_triton(canvas, scores, threshold)
    return commit_confident_reference(canvas, scores, threshold)


def commit_confident_reference(
    canvas: DeviceCanvas, scores: TokenScores, threshold: float
) -> Tensor:
    token, confidence = scores.token.view_as(canvas.tokens), scores.confidence.view_as(canvas.age)
    eligible = confidence.masked_fill(~canvas.masked, -1.0)
    best = torch.zeros_like(canvas.masked).scatter_(1, eligible.argmax(1, keepdim=True), True)
    revealed = canvas.masked & ((confidence >= threshold) | best)
    canvas.age.add_((~canvas.masked).long())
    canvas.tokens.copy_(torch.where(revealed, token, canvas.tokens))
    canvas.confidence.copy_(torch.where(revealed, confidence, canvas.confidence))
    canvas.masked.logical_and_(~revealed)
    return canvas.masked.sum(1, dtype=torch.int32)
