"""Prompt lookup: drafts never change the output, and save forwards on repetitive text."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, StopRule
from fim_model.decoding.lookup import DRAFT_TOKENS, LONGEST, SHORTEST, NgramIndex
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.reference import causal_logits
from fim_model.decoding.sampling import Sampler
from fim_model.network.transformer import TriModeTransformer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import counting


def run(
    model: TriModeTransformer,
    mode: str,
    prompt: list[int],
    count: int = 16,
    *,
    sampler: Sampler | None = None,
    eom: int = -1,
) -> tuple[DecodingCore, list[Step]]:
    cache = PromptCache(model, capacity=len(prompt) + count + 80)
    prefill = cache.prefill(prompt)
    stop = StopRule(eom, count)
    core = DecodingCore(model, cache.kv, stop, sampler or Sampler(), prompt=prompt)
    core.commit_choice(prefill.logits)
    return core, list(MODES[mode](core, ModeOptions()))


@pytest.mark.parametrize("vocabulary", [4, 12])
def test_greedy_equals_ar_on_hundreds_of_prompts(tiny: Any, vocabulary: int) -> None:
    """A small vocabulary, so that n-grams recur by chance: drafts are often right, often wrong."""
    rng = random.Random(vocabulary)
    widths = Counter[int]()
    for case in range(100):
        if case % 20 == 0:
            model = tiny.model(case, vocab_size=vocabulary, mask_token_id=None)
        prompt = [rng.randrange(vocabulary) for _ in range(rng.randint(1, 40))]
        eom = rng.choice([-1, 2])
        ar, _ = run(model, "ar", prompt, eom=eom)
        core, steps = run(model, "lookup", prompt, eom=eom)
        assert core.tokens == ar.tokens
        assert core.finish == ar.finish
        assert core.forwards <= ar.forwards
        assert core.forwards == len(steps)
        widths.update(step.width for step in steps)
    assert widths[1] > 30
    assert sum(count for width, count in widths.items() if width > 1) > 30


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 5),
    phrase=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    times=st.integers(1, 6),
    count=st.integers(1, 24),
    eom=st.integers(-1, 7),
)
def test_greedy_equals_ar_where_the_prompt_repeats_itself(
    tiny: Any, seed: int, phrase: list[int], times: int, count: int, eom: int
) -> None:
    """Every forward verifies a draft, at all lengths and limits."""
    model = tiny.model(seed, vocab_size=8, mask_token_id=None)
    ar, _ = run(model, "ar", phrase * times, count, eom=eom)
    core, _ = run(model, "lookup", phrase * times, count, eom=eom)
    assert (core.tokens, core.finish) == (ar.tokens, ar.finish)
    assert core.confidences == pytest.approx(ar.confidences, rel=1e-3)
    assert core.forwards <= ar.forwards


def test_repetitive_text_takes_few_forwards(tiny: Any) -> None:
    model = counting(tiny.config(vocab_size=12), period=8)
    prompt = [*range(8), *range(8), 0]
    ar, _ = run(model, "ar", prompt, 34)
    core, steps = run(model, "lookup", prompt, 34)
    assert core.tokens == ar.tokens
    assert ar.forwards == 33
    # Eleven tokens a forward: a draft goes on with the period, and one more token is free.
    assert [len(step.committed) for step in steps] == [DRAFT_TOKENS + 1] * 3
    assert all(step.kind is ForwardKind.VERIFY for step in steps)


def test_a_draft_is_of_bounded_width(tiny: Any) -> None:
    model = counting(tiny.config(vocab_size=40), period=40)
    _, steps = run(model, "lookup", [*range(40), 0, 1], 24)
    assert [step.width for step in steps] == [DRAFT_TOKENS + 1] * 2 + [1]


def test_without_repetition_it_is_ar(tiny: Any) -> None:
    model = counting(tiny.config(vocab_size=12), period=12)
    core, steps = run(model, "lookup", [0], 11)
    assert core.tokens == list(range(1, 12))
    assert [step.width for step in steps] == [1] * 10
    assert all(step.kind is ForwardKind.CAUSAL for step in steps)


def test_a_draft_never_exceeds_the_token_limit(tiny: Any) -> None:
    model = counting(tiny.config(vocab_size=12), period=8)
    for count in range(2, 14):
        core, steps = run(model, "lookup", [*range(8), *range(8), 0], count)
        assert len(core.tokens) == count
        assert max(step.width for step in steps) <= count - 1


def test_sampled_output_has_the_distribution_of_ar(tiny: Any) -> None:
    """Two tokens after the seed, 1500 draws: the total variation distance is within noise."""
    model = tiny.model(3, vocab_size=4, mask_token_id=None, scale=0.5)
    # [1, 2] -> 3 0 is in the prompt, so that every draw drafts [3, 0] after the seed 2.
    prompt = [0, 1, 2, 3, 0, 1]
    first = causal_logits(model, [*prompt, 2]).float()[-1].softmax(-1)
    exact = torch.stack(
        [
            first[token] * causal_logits(model, [*prompt, 2, token]).float()[-1].softmax(-1)
            for token in range(4)
        ]
    )
    counts, drafted = torch.zeros(4, 4), 0
    draws = 1500
    cache = PromptCache(model, capacity=60)
    sampler = Sampler(1.0, seed=1)
    for _ in range(draws):
        cache.prefill(prompt)
        core = DecodingCore(model, cache.kv, StopRule(-1, 3), sampler, prompt=prompt)
        core.commit([2], [1.0])
        steps = list(MODES["lookup"](core, ModeOptions()))
        drafted += steps[0].width > 1
        counts[core.tokens[1], core.tokens[2]] += 1
        cache.rewind(0)
    assert drafted == draws
    distance = float((counts / draws - exact).abs().sum() / 2)
    # E[TV] <= sqrt(k / n) / 2 = 0.052 for k = 16 cells, its deviation below 1 / sqrt(4 n) = 0.013.
    assert distance < 0.08
    assert float((exact - exact.mean()).abs().sum() / 2) > 0.2  # not the uniform distribution


@given(
    ids=st.lists(st.integers(0, 3), max_size=40),
    more=st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=4),
)
def test_the_index_finds_the_last_longest_match(ids: list[int], more: list[list[int]]) -> None:
    index, text = NgramIndex(ids), list(ids)
    for added in [[], *more]:
        index.extend(added)
        text += added
        assert index.continuation(6) == naive_continuation(text, 6)


def naive_continuation(text: list[int], limit: int) -> list[int]:
    for n in range(LONGEST, SHORTEST - 1, -1):
        for start in range(len(text) - n - 1, -1, -1):
            if len(text) > n and text[start : start + n] == text[-n:]:
                longer = list(text)
                for i in range(limit):
                    longer.append(longer[start + n + i])
                return longer[len(text) :]
    return []
