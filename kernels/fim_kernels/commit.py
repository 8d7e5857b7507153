"""Commit selection and canvas update on the device: a block is denoised without a host round trip.

The rule is the confidence threshold of Fast-dLLM (arXiv 2505.22618) with guaranteed progress: every
mask with `confidence >= threshold`, and the most confident mask whatever its confidence (the first
of equals). Bytes moved: some hundred; what counts is the launch that is not waited for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fim_kernels.dispatch import use_triton
from fim_kernels.types import DeviceCanvas, TokenScores


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
