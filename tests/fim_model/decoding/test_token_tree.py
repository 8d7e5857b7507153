"""Token tree: shared prefixes are stored once, and each text is scored as if alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.reference import causal_logits
from fim_model.decoding.token_tree import TokenTree
from fim_model.network.cpu import PackedTransformer
from fim_model.network.kv_cache import KVCache
from hypothesis import given
from hypothesis import strategies as st

Ids = list[int]
texts = st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=5)


@given(texts=texts)
def test_every_text_is_a_path(texts: list[Ids]) -> None:
    tree = TokenTree.of(texts)
    assert len(tree) == len(
        {tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)}
    )
    for at, text in enumerate(texts):
        path = tree.paths[at]
        assert [tree.tokens[place] for place in path] == text
        assert [tree.parents[place] for place in path] == [-1, *path][: len(path)]
        assert [tree.positions(7)[place] for place in path] == [*range(7, 7 + len(text))]
        assert tree.rows(at) == [0, *(place + 1 for place in path)]
    if texts:
        assert tree.paths[0] == tuple(range(len(texts[0])))
    trunk, pattern = tree.trunk, tree.pattern(0)
    assert pattern[:, :trunk].equal(torch.ones(len(tree), trunk).bool().tril())
    assert pattern[trunk:, trunk:].equal(tree.behind(trunk).pattern(0))
    assert trunk == len(tree) or not pattern[trunk:, trunk].all()
    assert [*tree.positions(7)[trunk:]] == tree.behind(trunk).positions(7 + trunk)
    assert tree.is_chain == torch.equal(tree.pattern(2), torch.ones_like(tree.pattern(2)).tril())


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_gets_the_logits_it_would_get_alone(tiny: Any, packed: bool) -> None:
    model = tiny.model(5, vocab_size=20)
    texts = [[7, 8, 9], [7, 8, 4, 4], [3], []]
    prompt = [1, 2, 3, 4, 5]
    wanted = [causal_logits(model, [*prompt, *text])[len(prompt) - 1 :] for text in texts]
    if packed:
        model = PackedTransformer.of(model)
    cache, tree = PromptCache(model, capacity=40), TokenTree.of(texts)
    cache.prefill(prompt[:3])
    prefill = cache.prefill(prompt, tree)
    assert prefill.reused == 3
    for at, rows in enumerate(wanted):
        torch.testing.assert_close(prefill.logits[tree.rows(at)], rows, atol=1e-4, rtol=1e-4)
    # One text is kept: decoding continues as if it had been read alone.
    cache.kv.keep(tree.paths[1])
    cache.tokens = [*prompt, *texts[1]]
    found = cache.prefill([*prompt, *texts[1], 6]).logits
    alone = PromptCache(model, capacity=40).prefill([*prompt, *texts[1], 6]).logits
    torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_kept_places_move_together(tiny: Any) -> None:
    cache = KVCache(tiny.config(), capacity=8)
    cache.advance(2)
    cache.keys[0][0, 0, :8, 0] = torch.arange(8.0)
    cache.keep([1, 2, 5])
    assert cache.length == 5
    assert cache.keys[0][0, 0, :5, 0].tolist() == [0, 1, 3, 4, 7]
    with pytest.raises(ValueError, match="cannot keep 4 more"):
        cache.keep([0, 1, 2, 3])
