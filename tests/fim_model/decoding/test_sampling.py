"""Sampling is seeded, and speculation keeps the autoregressive distribution.

Distributions are compared by Pearson's chi-square against exact probabilities; the seeds are fixed.
Correct rules must reach P_RIGHT, wrong ones must stay below P_WRONG.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pytest
import torch
from fim_kernels.types import TokenScores
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.predictions import Predicted, logits_of
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.reference import causal_logits
from fim_model.decoding.sampling import Accepted, Draft, Sampler
from fim_model.network.transformer import TriModeTransformer

P_RIGHT, P_WRONG = 1e-3, 1e-6


def chi_square_p(counts: Mapping[Hashable, int], exact: Mapping[Hashable, float]) -> float:
    """p-value of the counts under `exact`; cells with expectation below 5 are merged."""
    total = sum(counts.values())
    cells: list[tuple[float, float]] = []
    rest = [0.0, 0.0]
    for outcome, probability in exact.items():
        if probability * total < 5:
            rest[0] += counts.get(outcome, 0)
            rest[1] += probability * total
        else:
            cells.append((counts.get(outcome, 0), probability * total))
    rest[0] += sum(count for outcome, count in counts.items() if outcome not in exact)
    if rest[1] >= 5:
        cells.append((rest[0], rest[1]))
    statistic = sum((seen - due) ** 2 / due for seen, due in cells)
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def test_the_chi_square_p_value_matches_its_closed_form() -> None:
    """Two degrees of freedom: the upper tail of x is exp(-x / 2)."""
    exact = {"a": 0.5, "b": 0.25, "c": 0.25}
    assert chi_square_p({"a": 50, "b": 25, "c": 25}, exact) == 1
    statistic = 100 / 50 + 25 / 25 + 25 / 25
    found = chi_square_p({"a": 60, "b": 20, "c": 20}, exact)
    assert found == pytest.approx(math.exp(-statistic / 2))


# Acceptance rules, correct and wrong.


class Redraw(Sampler):
    """Wrong: keep a token that a second, independent sample agrees with, else draw again."""

    def accept_draft(self, rows: Predicted, draft: Draft) -> Accepted:
        target = self.distribution(logits_of(rows))
        tokens: list[int] = []
        for row, token in zip(target, draft.tokens.tolist(), strict=False):
            if int(self.draw(row[None])) != token:
                return Accepted([*tokens, int(self.draw(row[None]))], [1.0] * (len(tokens) + 1))
            tokens.append(token)
        return Accepted([*tokens, int(self.draw(target[-1:]))], [1.0] * (len(tokens) + 1))


class NoResidual(Sampler):
    """Wrong: p/q rejection, but a rejected token is redrawn from p instead of the residual."""

    def accept_draft(self, rows: Predicted, draft: Draft) -> Accepted:
        assert draft.probabilities is not None
        target = self.distribution(logits_of(rows))
        tokens: list[int] = []
        for p, q, token in zip(target, draft.probabilities, draft.tokens.tolist(), strict=False):
            if torch.rand((), generator=self.generator) * q[token] >= p[token]:
                return Accepted([*tokens, int(self.draw(p[None]))], [1.0] * (len(tokens) + 1))
            tokens.append(token)
        return Accepted([*tokens, int(self.draw(target[-1:]))], [1.0] * (len(tokens) + 1))


class Match(Sampler):
    """Correct but wasteful: emit the causal samples up to the first that differs from the draft.

    The output is the causal sample for any draft, so it is unbiased. But a token is accepted only
    with probability sum(p * q), not sum(min(p, q)).
    """

    def accept_draft(self, rows: Predicted, draft: Draft) -> Accepted:
        causal = self.draw(self.distribution(logits_of(rows))).tolist()
        pairs = zip(causal, draft.tokens.tolist(), strict=False)
        agreed = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        kept = causal[: sum(1 for _ in agreed) + 1]
        return Accepted(kept, [1.0] * len(kept))


# One drafted token, with known distributions.

P = [0.5, 0.2, 0.2, 0.1, 0.0]
Q = [0.1, 0.5, 0.2, 0.0, 0.2]


def first_tokens(sampler: Sampler, count: int) -> Counter[Hashable]:
    logits = torch.tensor([P, P]).log() * sampler.temperature
    q = torch.tensor([Q])
    found: Counter[Hashable] = Counter()
    for _ in range(count):
        token = sampler.draw(q)
        draft = Draft(TokenScores(token, q[0, token], torch.zeros(1)), q)
        found[sampler.accept_draft(logits, draft).tokens[0]] += 1
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_one_drafted_token_keeps_the_distribution(temperature: float) -> None:
    exact: dict[Hashable, float] = {token: p for token, p in enumerate(P) if p}
    for right in (Sampler(temperature, 1), Match(temperature, 1)):
        assert chi_square_p(first_tokens(right, 2000), exact) > P_RIGHT
    for wrong in (Redraw(temperature, 1), NoResidual(temperature, 1)):
        assert chi_square_p(first_tokens(wrong, 2000), exact) < P_WRONG


def test_a_draft_is_accepted_with_the_optimal_probability() -> None:
    """sum(min(p, q)) = 0.5; comparing samples would accept it with sum(p * q) = 0.19."""
    logits, q = torch.tensor([P, P]).log(), torch.tensor([Q])

    def kept(sampler: Sampler) -> int:
        count = 0
        for _ in range(2000):
            token = sampler.draw(q)
            draft = Draft(TokenScores(token, q[0, token], torch.zeros(1)), q)
            count += len(sampler.accept_draft(logits, draft).tokens) - 1
        return count

    # Five standard deviations are 0.056 and 0.044.
    assert kept(Sampler(1.0, 2)) / 2000 == pytest.approx(0.5, abs=0.056)
    assert kept(Match(1.0, 2)) / 2000 == pytest.approx(0.19, abs=0.044)


def test_a_certain_draft_is_always_accepted_and_an_impossible_one_never() -> None:
    sampler = Sampler(1.0, 3)
    target = torch.tensor([[0.0, 1.0, 0.0]] * 3)
    same = Draft(TokenScores(torch.tensor([1, 1]), torch.ones(2), torch.zeros(2)), target[:2])
    assert sampler.accept_draft(target.log(), same).tokens == [1, 1, 1]
    other = torch.tensor([[1.0, 0.0, 0.0]] * 2)
    foreign = Draft(TokenScores(torch.tensor([0, 0]), torch.ones(2), torch.zeros(2)), other)
    assert sampler.accept_draft(target.log(), foreign).tokens == [1]


def test_an_empty_residual_is_handled() -> None:
    """q exceeds p everywhere, as rounding can cause: the rejected token is redrawn from p."""
    q = torch.tensor([[1e9, 1e9]])
    draft = Draft(TokenScores(torch.tensor([0]), torch.ones(1), torch.zeros(1)), q)
    accepted = Sampler(1.0, 0).accept_draft(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), draft)
    assert len(accepted.tokens) == 1
    assert accepted.confidences == [0.5]


# Whole modes on a model, against exact probabilities.

PROMPT = [3, 7, 1, 4]
VOCABULARY = 12
SEED = 3
HOLES = 1000


@pytest.fixture(scope="module")
def model(tiny: Any) -> TriModeTransformer:
    made = tiny.model(
        SEED, vocab_size=VOCABULARY, num_hidden_layers=1, tie_word_embeddings=False, scale=0.8
    )
    assert isinstance(made, TriModeTransformer)
    return made


Pairs = dict[Hashable, float]


@pytest.fixture(scope="module")
def exact(model: TriModeTransformer) -> Callable[[float], tuple[Pairs, Pairs]]:
    """Autoregressive probabilities of tokens (0, 1) and of tokens (1, 2), by enumeration."""

    def enumerated(temperature: float) -> tuple[Pairs, Pairs]:
        def odds(*past: int) -> list[float]:
            row = causal_logits(model, [*PROMPT, *past])[-1] / temperature
            return row.double().softmax(-1).tolist()

        first: Pairs = {}
        second: Pairs = dict.fromkeys(itertools.product(range(VOCABULARY), repeat=2), 0.0)
        for a, p_a in enumerate(odds()):
            for b, p_b in enumerate(odds(a)):
                first[a, b] = p_a * p_b
                for c, p_c in enumerate(odds(a, b)):
                    second[b, c] += p_a * p_b * p_c
        return first, second

    return enumerated


def sampled(
    model: TriModeTransformer, mode: str, sampler: type[Sampler], temperature: float, count: int
) -> tuple[Counter[Hashable], Counter[Hashable]]:
    """Counts of tokens (0, 1) and (1, 2) in holes of six tokens, each with its own seed."""
    cache = PromptCache(model, capacity=64)
    logits = cache.prefill(PROMPT).logits
    first: Counter[Hashable] = Counter()
    second: Counter[Hashable] = Counter()
    for seed in range(count):
        cache.rewind(len(PROMPT))
        stop = StopRule(eom_id=-1, max_tokens=6)  # as many masks as the block has
        core = DecodingCore(model, cache.kv, stop, sampler(temperature, seed), block_size=4)
        core.commit_choice(logits)
        for _ in MODES[mode](core, ModeOptions()):
            pass
        a, b, c = core.tokens[:3]
        first[a, b] += 1
        second[b, c] += 1
    return first, second


@pytest.mark.parametrize(
    ("mode", "temperature"),
    [("self_speculation", 1.0), ("quadratic_speculation", 1.3)],
)
def test_sampled_speculation_keeps_the_ar_distribution(
    model: TriModeTransformer,
    exact: Callable[[float], tuple[Pairs, Pairs]],
    mode: str,
    temperature: float,
) -> None:
    found = sampled(model, mode, Sampler, temperature, HOLES)
    for counts, wanted in zip(found, exact(temperature), strict=True):
        assert chi_square_p(counts, wanted) > P_RIGHT


@pytest.mark.parametrize("wrong", [Redraw, NoResidual])
def test_the_same_check_rejects_naive_rules(
    model: TriModeTransformer,
    exact: Callable[[float], tuple[Pairs, Pairs]],
    wrong: type[Sampler],
) -> None:
    found = sampled(model, "self_speculation", wrong, 1.0, HOLES)
    for counts, wanted in zip(found, exact(1.0), strict=True):
        assert chi_square_p(counts, wanted) < P_WRONG


# The sampler alone.


def test_temperature_zero_takes_the_best() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    chosen = Sampler().choose(logits)
    assert chosen.token.tolist() == [1, 0]
    assert chosen.confidence.tolist() == pytest.approx(logits.softmax(-1).amax(-1).tolist())


def test_a_sampled_token_has_the_probability_it_was_drawn_with() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    chosen = Sampler(0.5, 1).choose(logits)
    rows = (logits / 0.5).softmax(-1)
    assert torch.equal(chosen.confidence, rows[torch.arange(50), chosen.token])
    assert (chosen.token != logits.argmax(-1)).any()


def test_seeds_repeat_and_differ() -> None:
    logits = torch.zeros(40, 30)
    first, again, other = (Sampler(1.0, seed).choose(logits).token.tolist() for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_the_global_random_state_is_unchanged() -> None:
    before = torch.get_rng_state()
    Sampler(1.0, 5).choose(torch.zeros(4, 4))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_invalid_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        Sampler(temperature)


@pytest.mark.parametrize(
    ("drafted", "accepted"),
    [([2, 0, 1], [2, 0, 1, 0]), ([2, 0, 0], [2, 0, 1]), ([1, 0, 1], [2]), ([], [2])],
)
def test_greedy_acceptance(drafted: list[int], accepted: list[int]) -> None:
    causal = torch.tensor([2, 0, 1, 0])[: len(drafted) + 1]
    logits = torch.nn.functional.one_hot(causal, 3) * 4.0
    count = len(drafted)
    scores = TokenScores(torch.tensor(drafted).long(), torch.ones(count), torch.zeros(count))
    found = Sampler().accept_draft(logits, Draft(scores, None))
    assert found.tokens == accepted
    best = float(logits[0].softmax(-1).max())
    assert found.confidences == pytest.approx([best] * len(accepted))


def test_a_draft_is_cut_after_its_end() -> None:
    tokens = torch.tensor([4, 9, 5, 9])
    draft = Draft(TokenScores(tokens, torch.arange(4.0), torch.arange(4.0)), torch.eye(4))
    cut = draft.until(9)
    assert cut.tokens.tolist() == [4, 9]
    assert cut.scores.confidence.tolist() == [0, 1]
    assert cut.probabilities is not None
    assert cut.probabilities.tolist() == torch.eye(4)[:2].tolist()
    assert draft.until(7).tokens.tolist() == tokens.tolist()
