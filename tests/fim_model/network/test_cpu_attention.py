"""What lies in a CPU's cache, and which of its places a forward looks at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.network import cpu_attention
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.cpu import PackedTransformer
from fim_model.network.cpu_attention import MIN_ROWS, SPAN, PartsAttention, Turns, key_dtype
from fim_model.network.kv_cache import ROOM_STEP, KVCache
from fim_model.network.transformer import TriModeTransformer


def attention(model: TriModeTransformer, cache: KVCache, width: int) -> PartsAttention:
    places = torch.arange(cache.length, cache.length + width)[None]
    part = Part(places, places, Attention.CAUSAL, cache)
    mixed = torch.empty(width, model.config.num_attention_heads * model.config.head_dim)
    return PartsAttention([part], model.config, Turns(model.config, model.model.rotary), mixed)


@pytest.mark.parametrize(("kept", "width"), [(0, 1), (63, 1), (63, 2), (64, 1), (10, 200)])
def test_rows_look_at_whole_spans_and_at_no_more_than_they_need(
    tiny: Any, kept: int, width: int
) -> None:
    model = tiny.model(1)
    cache = KVCache(model.config, capacity=300)
    cache.advance(kept)
    pieces = attention(model, cache, width)._pieces
    looked_at = {
        row: piece.mask.shape[1]
        for piece in pieces
        for row in range(piece.rows.start, piece.rows.stop)
    }
    assert looked_at == {row: -(-(kept + row + 1) // SPAN) * SPAN for row in range(width)}


def test_a_cache_has_room_for_whole_spans() -> None:
    assert ROOM_STEP % SPAN == 0


def test_integer_products_keep_keys_in_half_the_bytes_where_that_is_quick(tiny: Any) -> None:
    narrow = PackedTransformer.of(tiny.model(1), storage=torch.int8)
    full = PackedTransformer.of(tiny.model(1))
    assert PromptCache(full, capacity=8).kv.keys[0].dtype is torch.float32
    if narrow.products == "8-bit integers":
        config = narrow.config
        groups, heads = config.num_key_value_heads, config.num_attention_heads
        wanted = key_dtype(groups, heads // groups, config.head_dim)
        assert PromptCache(narrow, capacity=8).kv.keys[0].dtype is wanted


def test_float32_keys_where_a_row_depends_on_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_attention, "_rows_are_independent", lambda *shape: False)
    assert key_dtype.__wrapped__(3, 3, 64) is torch.float32


@pytest.mark.parametrize("widest", [MIN_ROWS, 64, 191, 767])
def test_the_check_of_rows_notices_one_that_depends_on_its_neighbours(
    monkeypatch: pytest.MonkeyPatch, widest: int
) -> None:
    """Blocks of queries change their size somewhere; what is wider is summed in another order."""
    attend = torch.nn.functional.scaled_dot_product_attention

    def by_width(queries: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        return attend(queries, *rest, **named) * (1 if queries.shape[2] <= widest else 1.02)

    assert cpu_attention._rows_are_independent(3, 3, 64)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", by_width)
    assert not cpu_attention._rows_are_independent(3, 3, 64)
