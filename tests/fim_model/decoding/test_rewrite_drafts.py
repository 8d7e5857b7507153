"""Rewriting with the old text as draft: the same text as AR's, in few forwards."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, StopRule
from fim_model.decoding.lookup import DRAFT_TOKENS, NgramIndex
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.reference import causal_logits
from fim_model.decoding.rewrite_drafts import OldText, rewrite_with_drafts, tree_log_probabilities
from fim_model.decoding.sampling import Sampler
from fim_model.decoding.token_tree import TokenTree
from fim_model.network.transformer import TriModeTransformer
from hypothesis import given
from hypothesis import strategies as st
from small_models import counting

Ids = list[int]


def autoregressive(model: TriModeTransformer, prompt: Ids, stop: StopRule) -> DecodingCore:
    cache = PromptCache(model, capacity=200)
    prefill = cache.prefill(prompt)
    core = DecodingCore(model, cache.kv, stop, Sampler())
    core.commit_choice(prefill.logits)
    list(MODES["ar"](core, ModeOptions()))
    return core


def rewrite(
    model: TriModeTransformer, prompt: Ids, old: Ids, stop: StopRule, *others: Ids
) -> tuple[DecodingCore, list[Step]]:
    cache, drafts = PromptCache(model, capacity=400), [old, *others]
    tree = TokenTree.of(drafts)
    core = DecodingCore(model, cache.kv, stop, Sampler(), prompt=prompt)
    return core, list(rewrite_with_drafts(core, drafts, tree, cache.prefill(prompt, tree)))


def altered(ids: Ids, rng: random.Random, vocabulary: int) -> Ids:
    """The ids with up to three changes, as a plausible old text."""
    ids = list(ids)
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(ids))
        added = [rng.randrange(vocabulary) for _ in range(rng.randint(0, 3))]
        ids[at : at + rng.randint(0, 3)] = added
    return ids


@pytest.mark.parametrize("vocabulary", [4, 24])
def test_greedy_equals_ar_for_any_old_text(tiny: Any, vocabulary: int) -> None:
    """Old texts are altered AR outputs, so that drafts are right for a while and then wrong."""
    rng, apart = random.Random(vocabulary), random.Random(vocabulary)
    saved, ends = 0, Counter[str | None]()
    for case in range(60):
        if case % 10 == 0:
            model = tiny.model(case, vocab_size=vocabulary, mask_token_id=None)
        prompt = [rng.randrange(vocabulary) for _ in range(rng.randint(1, 30))]
        stop = StopRule(rng.choice([-1, 2, 3]), rng.randint(1, 40))
        ar = autoregressive(model, prompt, stop)
        old = altered(ar.tokens, rng, vocabulary)[: stop.max_tokens - 1]
        others = [altered(old, apart, vocabulary)[: stop.max_tokens - 1] for _ in range(case % 4)]
        core, steps = rewrite(model, prompt, old, stop, *others)
        assert core.tokens == ar.tokens
        assert core.finish == ar.finish
        assert core.confidences == pytest.approx(ar.confidences, rel=1e-3)
        assert core.forwards == len(steps) - 1  # the first step is the prefill
        assert core.forwards <= ar.forwards
        assert [at for step in steps for at in step.committed] == list(range(len(ar.tokens)))
        saved += ar.forwards - core.forwards
        ends[core.finish] += 1
    assert saved > 250
    assert min(ends["eom"], ends["length"]) > 5


def test_the_cache_keeps_all_but_the_seed(tiny: Any) -> None:
    """The decoding core's invariant, after every forward."""
    model = tiny.model(4, vocab_size=8, mask_token_id=None)
    prompt = [1, 5, 2, 7]
    cache = PromptCache(model, capacity=100)
    old = autoregressive(model, prompt, StopRule(-1, 20)).tokens
    old[5], old[11] = 0, 0
    drafts = [[7, 7], old[:-1], old[:3]]
    tree = TokenTree.of(drafts)
    prefill = cache.prefill(prompt, tree)
    core = DecodingCore(model, cache.kv, StopRule(-1, 20), Sampler(), prompt=prompt)
    for _ in rewrite_with_drafts(core, drafts, tree, prefill):
        assert cache.kv.length == len(prompt) + len(core.tokens) - 1


COUNT = 48
NEW = [*range(1, COUNT - 1)]
EOM = COUNT - 1
CHANGES = {
    # The prefill alone.
    "nothing": (NEW, [len(NEW) + 1]),
    # Up to the change and its first token; then DRAFT_TOKENS + 1 by a guess or after one agreeing
    # token; then all the rest.
    "one token for one": ([*NEW[:9], 0, *NEW[10:]], [10, DRAFT_TOKENS + 1, 26]),
    "some tokens less": ([*NEW[:9], 0, 0, 0, *NEW[9:]], [10, DRAFT_TOKENS + 1, 26]),
    # The guess is wrong and yields one token.
    "a token more": ([*NEW[:9], *NEW[10:]], [10, 1, DRAFT_TOKENS + 1, 25]),
    "five tokens more": ([*NEW[:9], *NEW[14:]], [10, 1, 1, 1, 1, 1, DRAFT_TOKENS + 1, 21]),
    "a new beginning": ([0, *NEW[1:]], [1, DRAFT_TOKENS + 1, 35]),
    "a new end": ([*NEW[:-1], 0], [len(NEW), 1]),
    "all of it": ([0] * 3, [1] * len([*NEW, EOM])),
    "nothing was there": ([], [1] * len([*NEW, EOM])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_forwards_of_a_change(tiny: Any, change: str) -> None:
    old, committed = CHANGES[change]
    core, steps = rewrite(
        counting(tiny.config(vocab_size=COUNT), COUNT), [0], old, StopRule(EOM, 80)
    )
    assert core.tokens == [*NEW, EOM]
    assert core.finish == "eom"
    assert [len(step.committed) for step in steps] == committed
    assert steps[0].kind is ForwardKind.PREFILL
    assert steps[0].width == 1 + len(old)


def test_two_agreeing_tokens_resume_the_old_text(tiny: Any) -> None:
    """The draft continues where the new text re-enters the old one, not where it left it."""
    old = [*NEW[:3], 0, 0, *NEW[2:]]
    _, steps = rewrite(counting(tiny.config(vocab_size=COUNT), COUNT), [0], old, StopRule(EOM, 80))
    assert [len(step.committed) for step in steps] == [4, len(NEW) + 1 - 4]


def test_the_prompt_is_drafted_from_where_the_old_text_has_no_match(tiny: Any) -> None:
    model = counting(tiny.config(vocab_size=COUNT), COUNT)
    prompt = [*range(20, 32), 0]
    old = [*NEW[:18], *NEW[31:]]
    _, steps = rewrite(model, prompt, old, StopRule(EOM, 80))
    # 19 | 20 | 21 | the match [20, 21] in the prompt yields ten tokens and one more, which the old
    # text has.
    known = DRAFT_TOKENS + 1
    assert [len(step.committed) for step in steps] == [19, 1, 1, known, DRAFT_TOKENS + 1, 4]


def test_of_two_matches_the_one_ahead_is_taken() -> None:
    source = OldText([5, 9, 7, 1, 2, 3, 9, 8], NgramIndex([]))
    source.extend([5, 9, 7, 1, 4])
    source.extend([9])
    assert source.continuation(5) == [8]


def test_the_old_text_is_scored_by_the_forward_that_verifies_it(tiny: Any) -> None:
    model = tiny.model(9, vocab_size=20)
    prompt, old = [3, 4, 5, 6], [7, 8, 9, 8, 7]
    texts = [old, [7, 8, 3], [7, 8, 9, 8, 7, 5], [], [6]]
    tree = TokenTree.of(texts)
    assert len(tree) == 5 + 1 + 1 + 1, "what texts share is read once"
    found = tree_log_probabilities(
        PromptCache(model, capacity=40).prefill(prompt, tree).logits, tree, texts, 2
    )
    for text, nats in zip(texts, found, strict=True):
        rows = causal_logits(model, [*prompt, *text])[len(prompt) - 1 :].log_softmax(-1)
        wanted = sum(float(row[token]) for row, token in zip(rows, [*text, 2], strict=True))
        assert nats == pytest.approx(wanted, rel=1e-4)


def test_the_draft_accepted_longest_is_followed(tiny: Any) -> None:
    """The model writes the second draft, neither the old text nor the first draft."""
    model = counting(tiny.config(vocab_size=COUNT), COUNT)
    old, wrong = [0, *NEW[1:]], [*NEW[:9], 0]
    core, steps = rewrite(model, [0], old, StopRule(EOM, 80), wrong, NEW)
    assert core.tokens == [*NEW, EOM]
    assert [len(step.committed) for step in steps] == [len(NEW) + 1], "the prompt's forward alone"
    assert steps[0].width == 1 + len(old) + len(wrong) + len(NEW) - 9
    core, steps = rewrite(model, [0], old, StopRule(EOM, 80), wrong, [*NEW[:20], 0, *NEW[21:]])
    assert core.tokens == [*NEW, EOM]
    assert [len(step.committed) for step in steps] == [21, DRAFT_TOKENS + 1, 15]


@given(
    old=st.lists(st.integers(0, 3), max_size=20),
    new=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=6),
    limit=st.integers(0, 12),
)
def test_a_draft_is_a_bounded_piece_of_known_text(old: Ids, new: list[Ids], limit: int) -> None:
    source = OldText(old, NgramIndex([]))
    written: list[int] = []
    for tokens in new:
        source.extend(tokens)
        written += tokens
        draft = source.continuation(limit)
        assert len(draft) <= limit
        # Of the text that was written, a draft may go on where it begins itself.
        assert any(
            text[start : start + len(draft)] == draft
            for text in (old, [*written, *draft[:-1]])
            for start in range(len(text) + 1)
        )
