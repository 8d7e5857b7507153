# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Triton kernel of `commit_confident`: one program a block of the canvas."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fim_kernels.types import DeviceCanvas, TokenScores


@triton.jit
def _commit_confident(
    p_tokens, p_masked, p_confidence, p_age, p_new_token, p_new_confidence, p_left,
    size, threshold, BLOCK: tl.constexpr,
):  # fmt: skip
    i_b = tl.program_id(0)
    o_i = tl.arange(0, BLOCK)
    m_i = o_i < size
    o_all = i_b * size + o_i
    b_masked = tl.load(p_masked + o_all, mask=m_i, other=0) != 0
    b_new = tl.load(p_new_confidence + o_all, mask=b_masked, other=-1.0)
    best = tl.max(b_new, axis=0)
    first = tl.min(tl.where(b_masked & (b_new == best), o_i, BLOCK), axis=0)
    b_revealed = b_masked & ((b_new >= threshold) | (o_i == first))
    b_token = tl.load(p_new_token + o_all, mask=b_revealed, other=0)
    b_age = tl.load(p_age + o_all, mask=m_i, other=0)
    tl.store(p_tokens + o_all, b_token, mask=b_revealed)
    tl.store(p_confidence + o_all, b_new, mask=b_revealed)
    tl.store(p_age + o_all, b_age + 1, mask=m_i & (b_masked == 0))
    b_left = b_masked & (b_revealed == 0)
    tl.store(p_masked + o_all, b_left.to(tl.int8), mask=m_i)
    tl.store(p_left + i_b, tl.sum(b_left.to(tl.int32), axis=0))


def commit_confident_triton(canvas: DeviceCanvas, scores: TokenScores, threshold: float) -> Tensor:
    blocks, size = canvas.tokens.shape
    left = torch.empty(blocks, dtype=torch.int32, device=canvas.tokens.device)
    _commit_confident[(blocks,)](
        canvas.tokens, canvas.masked.view(torch.int8), canvas.confidence, canvas.age,
        scores.token.contiguous(), scores.confidence.contiguous(), left, size, threshold,
        BLOCK=triton.next_power_of_2(size), num_warps=1,
    )  # fmt: skip
    return left
