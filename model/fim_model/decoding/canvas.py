"""The positions being filled: some already tokens, some still masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fim_kernels.types import TokenScores
from torch import Tensor


@dataclass(slots=True)
class Canvas:
    """A block of B positions that are denoised together.

    tokens: int64 `[B]`, the mask id where nothing is committed yet. masked: bool `[B]`.
    confidence: float32 `[B]`, the probability with which a token was committed (0 for masks).
    age: int64 `[B]`, forwards since a token was committed (0 for masks).
    """

    tokens: Tensor
    masked: Tensor
    confidence: Tensor
    age: Tensor

    @classmethod
    def open(cls, seed: int, confidence: float, size: int, mask_id: int) -> Canvas:
        """`[seed, MASK x (size - 1)]`: the seed is the token that was chosen before the block."""
        canvas = cls(
            tokens=torch.full((size,), mask_id, dtype=torch.int64),
            masked=torch.ones(size, dtype=torch.bool),
            confidence=torch.zeros(size),
            age=torch.zeros(size, dtype=torch.int64),
        )
        canvas.tokens[0], canvas.confidence[0], canvas.masked[0] = seed, confidence, False
        return canvas

    @classmethod
    def of(cls, tokens: Tensor, mask_id: int) -> Canvas:
        """A block as it stands: mask ids are masks, all other tokens are context."""
        masked = tokens == mask_id
        return cls(tokens.clone(), masked, (~masked).float(), torch.zeros_like(tokens))

    @classmethod
    def with_masks(cls, tokens: Tensor, where: Tensor, mask_id: int) -> Canvas:
        """A copy of tokens `[B]` that are masks again at `where` (bool `[B]`)."""
        return cls.of(tokens.masked_fill(where, mask_id), mask_id)

    def commit(self, where: Tensor, tokens: Tensor, confidence: Tensor) -> None:
        """Turn the masks at `where` (bool `[B]`) into tokens (`[B]`, read only there)."""
        self.age[~self.masked] += 1
        self.tokens[where] = tokens[where]
        self.confidence[where] = confidence[where]
        self.masked &= ~where

    def spread(self, scores: TokenScores) -> TokenScores:
        """Scores of the masked rows `[masks]` to their places in the block `[B]`, else zero."""

        def place(values: Tensor) -> Tensor:
            return values.new_zeros(len(self.masked)).masked_scatter(self.masked, values)

        return TokenScores(place(scores.token), place(scores.confidence), place(scores.entropy))

    def settled(self, end: int | None = None) -> bool:
        """Whether no mask is left, or none before the token `end`."""
        return not self.masked.any() or (end is not None and self.settled_end(end) is not None)

    def settled_end(self, token: int) -> int | None:
        """Where `token` first stands with no mask before it, or None."""
        found = (self.tokens == token).nonzero()
        if not len(found):
            return None
        first = int(found[0])
        return None if self.masked[:first].any() else first
