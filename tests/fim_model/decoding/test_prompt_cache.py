"""The prompt cache prefills only new tokens, with the logits of a fresh cache."""

from __future__ import annotations

from random import Random
from threading import Thread
from typing import Any

import pytest
import torch
from fim_model.decoding.prompt_cache import PromptCache, SessionStore, common_prefix
from fim_model.decoding.reference import causal_logits
from fim_model.network.attention_mask import Attention
from fim_model.network.kv_cache import KVCache


def test_only_new_tokens_are_prefilled(tiny: Any) -> None:
    cache = PromptCache(tiny.model(), capacity=32)
    prompts: list[tuple[list[int], int, int]] = [
        ([5, 6, 7, 8], 0, 4),
        ([5, 6, 7, 8, 9], 4, 1),  # one more token
        ([5, 6, 7, 8, 9], 4, 1),  # the same: the last token is read again for its logits
        ([5, 6, 2, 8, 9], 2, 3),  # changed in the middle
        ([5, 6], 1, 1),  # shorter
        ([4, 6, 2], 0, 3),  # nothing in common
        ([4], 0, 1),
    ]
    for prompt, reused, prefilled in prompts:
        prefill = cache.prefill(prompt)
        assert (prefill.reused, prefill.computed) == (reused, prefilled)
        assert cache.tokens == prompt
        assert cache.kv.length == len(prompt)


def test_reuse_gives_the_logits_of_a_fresh_prefill(tiny: Any) -> None:
    model = tiny.model(1, rope=tiny.yarn(original_max_position_embeddings=8))
    cache = PromptCache(model, capacity=64)
    rng = Random(0)
    prompt = [rng.randrange(32) for _ in range(20)]
    for _ in range(25):
        kept = rng.randint(0, len(prompt))
        added = [rng.randrange(32) for _ in range(rng.randint(0, 6))]
        prompt = [*prompt[:kept], *added][:50] or [7]
        found = cache.prefill(prompt).logits
        assert found.shape == (1, 32)
        assert (found - causal_logits(model, prompt)[-1:]).abs().max() < 1e-4


def test_rewinding_drops_the_later_tokens(tiny: Any) -> None:
    model = tiny.model(2)
    cache = PromptCache(model, capacity=32)
    cache.prefill([1, 2, 3, 4, 5])
    cache.rewind(2)
    assert cache.tokens == [1, 2]
    prefill = cache.prefill([1, 2, 9, 4])
    assert (prefill.reused, prefill.computed) == (2, 2)
    fresh = PromptCache(model, capacity=32).prefill([1, 2, 9, 4])
    assert (prefill.logits - fresh.logits).abs().max() < 1e-5


def test_tokens_decoded_after_the_prompt_are_dropped(tiny: Any) -> None:
    """Cancelled decoding leaves keys after the prompt; the next prefill drops them."""
    model = tiny.model(3)
    cache = PromptCache(model, capacity=32)
    cache.prefill([1, 2, 3])
    decoded = torch.tensor([[8, 9]])
    with torch.inference_mode():
        model(decoded, torch.tensor([[3, 4]]), Attention.CAUSAL, cache.kv)
    cache.kv.advance(2)
    prefill = cache.prefill([1, 2, 3, 4])
    assert (prefill.reused, prefill.computed) == (3, 1)
    assert (prefill.logits - causal_logits(model, [1, 2, 3, 4])[-1:]).abs().max() < 1e-4


def test_a_prompt_that_does_not_fit_is_refused_and_leaves_the_cache_usable(tiny: Any) -> None:
    cache = PromptCache(tiny.model(), capacity=6)
    cache.prefill([1, 2, 3, 4])
    with pytest.raises(ValueError, match="holds 6 tokens, 8 were asked for"):
        cache.prefill([1, 2, 3, 4, 5, 6, 7, 8])
    prefill = cache.prefill([1, 2, 3, 4, 5])
    assert (prefill.reused, prefill.computed) == (4, 1)
    fresh = PromptCache(cache.model, capacity=6).prefill([1, 2, 3, 4, 5])
    assert (prefill.logits - fresh.logits).abs().max() < 1e-5


def test_the_cache_has_the_dtype_of_the_model(tiny: Any) -> None:
    model = tiny.model().bfloat16()
    assert PromptCache(model, capacity=4).prefill([1, 2]).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 4, 3], 1), ([1], [2], 0)],
)
def test_common_prefix(a: list[int], b: list[int], length: int) -> None:
    assert common_prefix(a, b) == length


# The store of all documents' caches.


def store(tiny: Any, documents: int) -> SessionStore:
    model = tiny.model()
    made = SessionStore(lambda: PromptCache(model, capacity=8))
    made.take("first").prefill([1])
    made.budget_bytes = documents * made.bytes
    made.forget("first")
    return made


def test_only_named_sessions_keep_their_cache(tiny: Any) -> None:
    sessions = store(tiny, 4)
    sessions.take("a").prefill([1, 2, 3])
    sessions.take("").prefill([4, 5])
    assert sessions.take("a").tokens == [1, 2, 3]
    assert sessions.take("b").tokens == []
    assert sessions.take("").tokens == []
    sessions.forget("a")
    sessions.forget("never seen")
    assert sessions.take("a").tokens == []


def test_forgetting_a_session_includes_its_parts_but_no_other_session(tiny: Any) -> None:
    sessions = store(tiny, 8)
    for name in ("a", "a#edits", "a#edits#rewrite", "ab", "b#a"):
        sessions.take(name).prefill([1])
    sessions.forget("a")
    assert len(sessions) == 2
    assert sessions.take("ab").tokens == sessions.take("b#a").tokens == [1]


def test_a_cache_in_use_is_freed_when_its_request_is_done(tiny: Any) -> None:
    """An editor closes a document while its last request is still running."""
    sessions = store(tiny, 4)
    with sessions.held("a"):
        sessions.forget("a")  # before the request takes its cache: it is still freed at the end
        kept = sessions.take("a")
        kept.prefill([1])
        sessions.forget("a")
        assert sessions.take("a") is kept
    assert (len(sessions), sessions.bytes) == (0, 0)
    with sessions.held("a"):
        assert sessions.take("a").tokens == []
    assert len(sessions) == 1, "the document was opened again"


def test_idle_sessions_are_evicted(tiny: Any) -> None:
    now = 0.0
    model = tiny.model()
    sessions = SessionStore(lambda: PromptCache(model, capacity=8), clock=lambda: now)
    sessions.take("old").prefill([1])
    now = 5.0
    sessions.take("new").prefill([1])
    now = 12.0
    with sessions.held("old"):
        sessions.forget_unused(10)
        assert len(sessions) == 2
    sessions.forget_unused(10)
    assert len(sessions) == 1
    assert sessions.take("new").tokens == [1]


def test_over_budget_the_least_recently_used_cache_is_reused(tiny: Any) -> None:
    sessions = store(tiny, 2)
    a, b = sessions.take("a"), sessions.take("b")
    a.prefill([1, 2, 3])
    b.prefill([4])
    assert sessions.take("a") is a  # b is now the least recently used
    c = sessions.take("c")
    assert c is b
    assert (c.tokens, c.kv.length) == ([], 0)
    assert (len(sessions), sessions.evicted) == (2, 1)
    assert sessions.take("a").tokens == [1, 2, 3]
    assert sessions.bytes == sessions.budget_bytes


def test_one_document_is_kept_for_any_budget(tiny: Any) -> None:
    sessions = store(tiny, 0)
    sessions.take("a").prefill([1, 2])
    assert sessions.take("a").tokens == [1, 2]
    assert sessions.take("b").tokens == []
    assert len(sessions) == 1


def test_a_held_cache_is_not_evicted(tiny: Any) -> None:
    kept = store(tiny, 1)
    with kept.held("a"):
        a = kept.take("a")
        a.prefill([2, 3])
        b = kept.take("b")
        b.prefill([4])
        assert b is not a
        assert a.tokens == [2, 3]
        assert kept.take("c") is b, "what nobody holds makes room as ever"
        assert (len(kept), kept.evicted) == (2, 1)
    assert len(kept) == 1, "what was beyond the budget is given back"
    assert kept.take("c").tokens == []
    assert len(kept) == 1


def test_a_session_may_be_held_twice(tiny: Any) -> None:
    kept = store(tiny, 1)
    with kept.held("a"):
        with kept.held("a"):
            kept.take("a").prefill([2])
        kept.take("b")
        assert kept.take("a").tokens == [2]


def test_memory_is_counted_while_others_take_caches(tiny: Any, monkeypatch: Any) -> None:
    """A cache that is taken between two caches of the sum waits until all are counted."""
    sessions = store(tiny, documents=9)
    for name in "abc":
        sessions.take(name)
    expected, takers = sessions.bytes, list[Thread]()
    size = KVCache.nbytes.fget  # type: ignore[attr-defined]

    def size_while_taken(cache: KVCache) -> int:
        if not takers:
            takers.append(Thread(target=sessions.take, args=("d",)))
            takers[0].start()
            takers[0].join(0.1)
        return int(size(cache))

    monkeypatch.setattr(KVCache, "nbytes", property(size_while_taken))
    assert sessions.bytes == expected
    takers[0].join()
    assert len(sessions) == 4
