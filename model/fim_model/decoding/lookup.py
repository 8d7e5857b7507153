"""Prompt lookup: drafts copied from what the model has read, verified causally.

Code repeats itself: what followed the last few tokens at their previous occurrence is a draft that
costs no forward (prompt lookup decoding, Saxena 2023; the n-gram side of arXiv 2304.04487). One
causal forward verifies it. Greedy output is the autoregressive output; sampled output has the
autoregressive distribution, the draft being a proposal with probability 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from fim_kernels.types import TokenScores

from fim_model.decoding.core import DecodingCore, Steps
from fim_model.decoding.sampling import Draft
from fim_model.decoding.speculation import verify

LONGEST, SHORTEST = 4, 2
"""Lengths of the n-grams that are looked up; a single token agrees too often."""

DRAFT_TOKENS = 10


def lookup(core: DecodingCore) -> Steps:
    """Yields one step a forward."""
    yield from verify_drafts(core, NgramIndex([*core.prompt, *core.tokens]))


class DraftSource(Protocol):
    """Proposes drafts while a hole is filled."""

    def continuation(self, limit: int) -> list[int]:
        """A draft of at most `limit` tokens."""
        ...

    def extend(self, ids: Sequence[int]) -> None:
        """Append tokens that were committed."""
        ...


def verify_drafts(core: DecodingCore, source: DraftSource) -> Steps:
    """Draft and verify until the hole is done; one step a forward."""
    while core.finish is None:
        before = len(core.tokens)
        yield verify(core, certain_draft(source.continuation(core.left - 1), core))
        source.extend(core.tokens[before:])


def certain_draft(tokens: Sequence[int], core: DecodingCore) -> Draft:
    """A draft that proposes these tokens with probability 1."""
    ids = torch.tensor(tokens, dtype=torch.int64)
    scores = TokenScores(ids, torch.ones(len(ids)), torch.zeros(len(ids)))
    if not core.sampler.temperature:
        return Draft(scores, None)
    return Draft(scores, F.one_hot(ids, core.model.config.vocab_size).float())


class NgramIndex:
    """The last occurrence of each n-gram of a growing text, except at its very end."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        # Later occurrences replace earlier ones; zip and dict do it without a Python loop.
        # A gram that ends at index i - 1 points to i, where its continuation begins.
        self._after = {
            n: dict(
                zip(
                    zip(*(self._ids[shift:-1] for shift in range(n)), strict=False),
                    range(n, len(self._ids)),
                    strict=False,
                )
            )
            for n in range(SHORTEST, LONGEST + 1)
        }

    def continuation(self, limit: int) -> list[int]:
        """What followed the longest known n-gram at the end of the text, at most DRAFT_TOKENS."""
        return self.longest(limit)[1]

    def longest(self, limit: int) -> tuple[int, list[int]]:
        """`continuation`, and the n-gram's length, 0 if none is known."""
        for n in range(LONGEST, SHORTEST - 1, -1):
            start = self._after[n].get(tuple(self._ids[-n:]))
            if start is not None and limit > 0:
                # A text that repeats its end goes on repeating it, as a copy in LZ77 does.
                period = len(self._ids) - start
                where = (start + i % period for i in range(min(limit, DRAFT_TOKENS)))
                return n, [self._ids[at] for at in where]
        return 0, []

    def extend(self, ids: Sequence[int]) -> None:
        """Append to the text."""
        for token in ids:
            end = len(self._ids)
            for n, after in self._after.items():
                if end >= n:
                    after[tuple(self._ids[-n:])] = end
            self._ids.append(token)
