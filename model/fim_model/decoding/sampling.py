"""Choosing tokens from logits: greedy, or sampled exactly from the model's distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from fim_kernels.token_scores import score_tokens_reference
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.decoding.predictions import Predicted, logits_of, scores_of

SEEDS = 2**64
"""PyTorch's number of seeds; clients send larger ones."""


class Sampler:
    """Temperature 0 takes the arg-max; above it, seeded draws from `softmax(logits / T)`.

    `top_p` keeps the likeliest tokens whose probabilities reach that sum (nucleus sampling,
    arXiv 1904.09751). Drafts and their verification use the same distribution.
    """

    def __init__(self, temperature: float = 0.0, seed: int = 0, top_p: float = 1.0) -> None:
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be 0 or more, not {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")
        self.temperature, self.top_p = temperature, top_p
        self.generator = torch.Generator().manual_seed(seed % SEEDS)

    def choose(self, rows: Predicted) -> TokenScores:
        """A token for each row, and the probability it was chosen with."""
        return self.draft(rows).scores

    def draft(self, rows: Predicted) -> Draft:
        """The same, with the distributions that the tokens were drawn from, for `accept_draft`."""
        if not self.temperature:
            return Draft(scores_of(rows), None)
        logits = logits_of(rows)
        scores = score_tokens_reference(logits)
        probabilities = self.distribution(logits)
        token = self.draw(probabilities)
        chosen = probabilities.gather(-1, token[..., None]).squeeze(-1)
        return Draft(TokenScores(token, chosen, scores.entropy), probabilities)

    def distribution(self, logits: Tensor) -> Tensor:
        """`softmax(logits / T)` within `top_p`, float32 `[T, V]`; requires temperature > 0."""
        probabilities = (logits.float() / self.temperature).softmax(-1)
        return probabilities if self.top_p == 1 else nucleus(probabilities, self.top_p)

    def draw(self, probabilities: Tensor) -> Tensor:
        """One id a row of `[T, V]` (need not be normalised)."""
        return torch.multinomial(probabilities, 1, generator=self.generator).squeeze(-1)

    def accept_draft(self, rows: Predicted, draft: Draft) -> Accepted:
        """The longest acceptable prefix of a draft of n tokens, and the token that follows it.

        rows: n + 1 causal ones; row i predicts draft token i given those before it.
        Greedy: accept while `argmax == draft`. Sampled: token x is accepted with probability
        `min(1, p(x) / q(x))`, the first rejected one is redrawn from `max(p - q, 0)`, which leaves
        exactly the distribution p (Leviathan et al., arXiv 2211.17192).
        """
        if not self.temperature:
            return _accept_greedy(scores_of(rows), draft.tokens)
        if draft.probabilities is None:
            raise ValueError("a draft for sampling needs the distributions it was drawn from")
        target = self.distribution(logits_of(rows))
        for i, token in enumerate(draft.tokens.tolist()):
            p, q = target[i], draft.probabilities[i]
            if torch.rand((), generator=self.generator) * q[token] < p[token]:
                continue
            kept = draft.tokens[:i]
            left = (p - q).clamp_min(0)
            # p and q that differ by rounding alone can leave nothing to draw from.
            bonus = int(self.draw((left if left.any() else p)[None]))
            return _accepted(target, kept, bonus)
        return _accepted(target, draft.tokens, int(self.draw(target[-1:])))


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Rows `[T, V]` that keep the fewest likeliest tokens whose sum reaches `top_p`, normalised."""
    sorted_rows, order = probabilities.sort(-1, descending=True)
    before = sorted_rows.cumsum(-1) - sorted_rows
    kept = torch.zeros_like(probabilities).scatter(-1, order, sorted_rows * (before < top_p))
    return kept / kept.sum(-1, keepdim=True)


def openings(
    logits: Tensor,
    alternatives: int,
    temperature: float = 0.0,
    seed: int = 0,
    top_p: float = 1.0,
) -> Iterator[tuple[int, float, Sampler]]:
    """Each alternative's first token, its probability, and the sampler for the rest of it.

    logits: `[1, V]`. Greedy: the likeliest first tokens. A sampled alternative uses one stream of
    random numbers from its first token on.
    """
    if temperature:
        for index in range(alternatives):
            sampler = Sampler(temperature, seed + index, top_p)
            chosen = sampler.choose(logits)
            yield int(chosen.token), float(chosen.confidence), sampler
        return
    best = logits[0].float().softmax(-1).topk(min(alternatives, logits.shape[-1]))
    for token, confidence in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        if not confidence:  # fewer tokens are possible than alternatives
            return
        yield token, confidence, Sampler()


@dataclass(frozen=True, slots=True)
class Draft:
    """n proposed tokens: scores `[n]`, and when sampled the `[n, V]` they were drawn from."""

    scores: TokenScores
    probabilities: Tensor | None

    @classmethod
    def nothing(cls) -> Draft:
        """A draft of no tokens: verifying it chooses the next one."""
        empty = torch.empty(0)
        return cls(TokenScores(empty.long(), empty, empty), empty[:, None])

    @property
    def tokens(self) -> Tensor:
        return self.scores.token

    def until(self, token: int) -> Draft:
        """The draft up to and including the first `token`, such as the end-of-middle token."""
        found = (self.tokens == token).nonzero()
        return self.first(int(found[0]) + 1) if len(found) else self

    def first(self, count: int) -> Draft:
        """At most `count` tokens of the draft."""
        scores = TokenScores(
            self.scores.token[:count], self.scores.confidence[:count], self.scores.entropy[:count]
        )
        rows = None if self.probabilities is None else self.probabilities[:count]
        return Draft(scores, rows)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The accepted draft tokens and the causal one after them, with causal probabilities."""

    tokens: list[int]
    confidences: list[float]


def _accept_greedy(scores: TokenScores, draft: Tensor) -> Accepted:
    kept = int((scores.token[:-1] == draft).cumprod(0).sum())
    return Accepted(scores.token[: kept + 1].tolist(), scores.confidence[: kept + 1].tolist())


def _accepted(target: Tensor, kept: Tensor, bonus: int) -> Accepted:
    tokens = [*kept.tolist(), bonus]
    rows = torch.arange(len(tokens))
    return Accepted(tokens, target[rows, torch.tensor(tokens)].tolist())
