"""On a CPU a position's hidden state depends on what it sees, to the last bit, and on nothing else.

From this follow greedy self-speculation that equals AR, and a cached prompt that equals a new one.
The shape has heads as wide as real models'; attention of narrow heads is computed in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PIECE, PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.decoding.token_tree import TokenTree
from fim_model.errors import Cancelled
from fim_model.network import cpu_onnx
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.contract import Network, forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from torch import Tensor

SHAPE = {
    "hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 2048,
}  # fmt: skip
LENGTH = 300


@pytest.fixture(params=["full", "int8", "onnx"])
def network(request: pytest.FixtureRequest, tiny: Any) -> Network:
    if request.param == "onnx":
        pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
        if not cpu_onnx.available():
            pytest.skip("this processor has no exact products of bytes (no VNNI, no AMX)")
        return cpu_onnx.OnnxTransformer.of(tiny.model(1, **SHAPE), storage=torch.int8)
    storage = torch.int8 if request.param == "int8" else None
    return PackedTransformer.of(tiny.model(1, **SHAPE), storage=storage)


def ids(count: int, seed: int = 0) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(2, 32, (count,), generator=draw).tolist()


def read(network: Network, cache: KVCache, tokens: Sequence[int]) -> Tensor:
    """Hidden states `[T, D]` of further tokens, which the cache then keeps."""
    places = torch.arange(cache.length, cache.length + len(tokens))[None]
    hidden = forward_one(network, torch.tensor([tokens]), places, Attention.CAUSAL, cache)[0]
    cache.advance(len(tokens))
    return hidden.clone()


def in_pieces(network: Network, tokens: Sequence[int], sizes: Sequence[int]) -> Tensor:
    cache = KVCache(network.config, capacity=LENGTH + 100, dtype=network.cache_dtype)
    found, at = list[Tensor](), 0
    for size in sizes:
        found.append(read(network, cache, tokens[at : at + size]))
        at += size
    assert at == len(tokens)
    return torch.cat(found)


@pytest.mark.parametrize(
    "sizes",
    [
        [1] * 40 + [260], [260] + [1] * 40, [2, 3, 4, 5, 7, 9, 270], [33, 65, 11, 43, 97, 51],
        [150, 150], [299, 1], [11] * 27 + [3],
    ],
    ids=lambda sizes: f"{len(sizes)} pieces",
)  # fmt: skip
def test_pieces_equal_the_whole(network: Network, sizes: list[int]) -> None:
    tokens = ids(LENGTH)
    assert torch.equal(in_pieces(network, tokens, sizes), in_pieces(network, tokens, [LENGTH]))


@pytest.mark.parametrize("width", [1, 2, 5, 16, 33])
def test_a_part_among_fifteen_others_equals_itself_alone(network: Network, width: int) -> None:
    def part(number: int) -> Part:
        cache = KVCache(network.config, capacity=LENGTH, dtype=network.cache_dtype)
        read(network, cache, ids(20 + 7 * number, number))
        tokens = torch.tensor([ids(width if number == 3 else 1 + number, 50 + number)])
        places = torch.arange(cache.length, cache.length + tokens.shape[1])[None]
        return Part(tokens, places, Attention.CAUSAL, cache)

    together = network.forward_parts([part(number) for number in range(16)], None)
    alone = network.forward_parts([part(3)], None)
    assert torch.equal(together[3], alone[0])


def test_every_lossless_mode_equals_ar(network: Network) -> None:
    for seed in range(3):
        prompt = ids(40 + 33 * seed, seed)
        found = {}
        for mode in ("ar", "self_speculation", "quadratic_speculation", "lookup", "adaptive"):
            cache = PromptCache(network, capacity=400)
            core = DecodingCore(
                network, cache.kv, StopRule(-1, 24), Sampler(), block_size=8, prompt=prompt
            )
            core.commit_choice(cache.prefill(prompt).logits)
            list(MODES[mode](core, ModeOptions(width_budget=20)))
            found[mode] = (core.tokens, core.confidences)
        assert all(other == found["ar"] for other in found.values())


def test_a_long_prompt_is_given_up_between_two_forwards_and_nothing_is_lost(
    network: Network,
) -> None:
    prompt = ids(LENGTH)
    cache, asked = PromptCache(network, capacity=LENGTH + 10), []

    def stop_at_second() -> bool:
        asked.append(len(cache.tokens))
        return len(asked) == 2

    with pytest.raises(Cancelled):
        cache.prefill(prompt, should_stop=stop_at_second)
    assert asked == [60, 120]
    assert max(asked[0], asked[1] - asked[0]) <= PIECE
    assert cache.kv.length == len(cache.tokens) == 120
    later = cache.prefill(prompt)
    assert (later.reused, later.computed) == (120, 180)
    fresh = PromptCache(network, capacity=LENGTH + 10).prefill(prompt)
    assert torch.equal(later.logits, fresh.logits)


def widths_of_forwards(network: Network, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every forward."""
    widths, forward_parts = list[int](), network.forward_parts

    def counted(parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        widths.append(sum(part.width for part in parts))
        return forward_parts(parts, lora)

    monkeypatch.setattr(network, "forward_parts", counted)
    return widths


def forked(common: int, each: int) -> TokenTree:
    """Two drafts of as many tokens that part after the first `common`."""
    begin, one, other = ids(common, 7), ids(each - common, 8), ids(each - common, 9)
    other[0] = 33 - one[0]
    return TokenTree.of([[*begin, *one], [*begin, *other]])


def test_no_forward_over_a_prompt_and_a_draft_is_wider_than_a_piece(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What both drafts begin with is read in pieces like a prompt; the branches behind it are one
    forward. Results are those of a single one."""
    prompt, widths = ids(90), widths_of_forwards(network, monkeypatch)
    whole, pieces = list[Tensor](), list[Tensor]()
    for tree in (TokenTree.of([ids(150, 3)]), forked(common=100, each=120)):
        for found, piece in ((whole, 1000), (pieces, PIECE)):
            monkeypatch.setattr("fim_model.decoding.prompt_cache.PIECE", piece)
            widths.clear()
            cache = PromptCache(network, capacity=400)
            found.append(cache.prefill(prompt, tree).logits[tree.rows(0)])
            assert cache.kv.length == len(cache.tokens) == len(prompt)
            assert len(widths) == -(-(len(prompt) + len(tree)) // piece)
            assert max(widths) <= piece
    assert all(map(torch.equal, whole, pieces))


def test_a_draft_can_be_given_up_between_its_pieces(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths, prompt, draft = widths_of_forwards(network, monkeypatch), ids(20), ids(150, 3)
    cache = PromptCache(network, capacity=400)
    with pytest.raises(Cancelled):
        cache.prefill(prompt, draft, lambda: len(widths) == 2)
    assert len(widths) == 2
    assert cache.kv.length == len(cache.tokens) == len(prompt)


@pytest.mark.parametrize("common", [0, 3, 30])
def test_the_first_of_several_drafts_gets_what_it_gets_alone(network: Network, common: int) -> None:
    """To the last bit, across a border of 64 keys. The tokens of the other one have those of the
    first among their keys, hidden: their sums are taken in another order."""
    prompt, tree = ids(50), forked(common, each=40)
    both = PromptCache(network, capacity=200).prefill(prompt, tree).logits
    first, second = ([tree.tokens[place] for place in path] for path in tree.paths)
    alone = [
        PromptCache(network, capacity=200).prefill(prompt, draft).logits
        for draft in (first, second)
    ]
    assert torch.equal(both[tree.rows(0)], alone[0])
    assert (both[tree.rows(1)] - alone[1]).norm() < 0.05 * alone[1].norm()
