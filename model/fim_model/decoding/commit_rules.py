"""Commit rules: which masks become tokens after a forward.

Every rule is a pure function of the scores at the block's positions and commits at least the most
confident mask, so that every block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from fim_kernels.types import TokenScores
from torch import Tensor


class CommitRule(Protocol):
    def __call__(self, scores: TokenScores, masked: Tensor) -> Tensor:
        """scores: `[B]` fields; masked: bool `[B]`, some True. Returns the positions to commit."""
        ...


@dataclass(frozen=True, slots=True)
class ConfidenceThreshold:
    """Every mask with `c >= threshold` (Fast-dLLM, arXiv 2505.22618)."""

    threshold: float = 0.9

    def __call__(self, scores: TokenScores, masked: Tensor) -> Tensor:
        sure = masked & (scores.confidence >= self.threshold)
        return sure | _most_confident(scores, masked)


@dataclass(frozen=True, slots=True)
class Factor:
    """The n most confident with the largest n for which `(n + 1) * (1 - c_n) < factor`

    (Fast-dLLM, arXiv 2505.22618): the surer the model, the more tokens in parallel.
    """

    factor: float = 1.0

    def __call__(self, scores: TokenScores, masked: Tensor) -> Tensor:
        confidence = scores.confidence.masked_fill(~masked, -1.0)
        ordered, order = confidence.sort(descending=True)
        rank = torch.arange(1, len(ordered) + 1, device=ordered.device)
        fits = ((rank + 1) * (1 - ordered) < self.factor) & (ordered >= 0)
        count = max(1, int((fits * rank).max()))
        return _at(order[:count], masked)


@dataclass(frozen=True, slots=True)
class EntropyBound:
    """The k masks of lowest entropy with `sum H - max H <= gamma` (EB-Sampler, arXiv 2505.24857).

    The left side bounds the mutual information that committing them together ignores.
    """

    gamma: float = 0.1

    def __call__(self, scores: TokenScores, masked: Tensor) -> Tensor:
        entropy = scores.entropy.masked_fill(~masked, torch.inf)
        ordered, order = entropy.sort()
        all_but_highest = F.pad(ordered.cumsum(0)[:-1], (1, 0))
        fits = (all_but_highest <= self.gamma) & ordered.isfinite()
        count = max(1, int(fits.sum()))
        return _at(order[:count], masked)


@dataclass(frozen=True, slots=True)
class Leftmost:
    """The first `count` masks in order."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count}; a block must end")

    def __call__(self, scores: TokenScores, masked: Tensor) -> Tensor:
        return masked & (masked.cumsum(0) <= self.count)


RULES: Mapping[str, Callable[[float], CommitRule]] = {
    "confidence": ConfidenceThreshold,
    "factor": Factor,
    "entropy": EntropyBound,
    "leftmost": lambda count: Leftmost(int(count)),
}


def parse_rule(text: str) -> CommitRule:
    """A rule from its name and number, such as `confidence:0.9`. Raises ValueError."""
    name, _, number = text.partition(":")
    if name not in RULES:
        raise ValueError(f"commit rule {name!r} is unknown; known are {', '.join(RULES)}")
    try:
        return RULES[name](float(number))
    except ValueError:
        raise ValueError(f"commit rule {text!r}: a number is expected after the colon") from None


def _most_confident(scores: TokenScores, masked: Tensor) -> Tensor:
    return _at(scores.confidence.masked_fill(~masked, -1.0).argmax()[None], masked)


def _at(positions: Tensor, like: Tensor) -> Tensor:
    chosen = torch.zeros_like(like)
    chosen[positions] = True
    return chosen
