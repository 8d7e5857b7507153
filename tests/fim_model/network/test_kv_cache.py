"""The KV cache: written entries are provisional until they are kept."""

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.network.kv_cache import KVCache
from torch import Tensor


def cache_of(tiny: Any, capacity: int = 6, **kind: Any) -> KVCache:
    return KVCache(tiny.config(), capacity=capacity, **kind)


def numbered(first: int, count: int, batch: int = 1) -> Tensor:
    """Keys `[batch, 2, count, 8]` filled with their index."""
    return torch.arange(first, first + count).float()[:, None].expand(batch, 2, count, 8)


def visible(keys: Tensor) -> list[float]:
    assert (keys == keys[:1, :1, :, :1]).all()
    return keys[0, 0, :, 0].tolist()


def test_a_write_returns_the_kept_entries_and_its_own(tiny: Any) -> None:
    cache = cache_of(tiny)
    keys, values = cache.write(0, numbered(0, 3), numbered(10, 3))
    assert (visible(keys), visible(values)) == ([0, 1, 2], [10, 11, 12])
    cache.advance(2)
    keys, values = cache.write(0, numbered(20, 3), numbered(30, 3))
    assert (visible(keys), visible(values)) == ([0, 1, 20, 21, 22], [10, 11, 30, 31, 32])


def test_a_draft_that_is_not_kept_is_overwritten(tiny: Any) -> None:
    cache = cache_of(tiny)
    cache.write(0, numbered(0, 1), numbered(0, 1))
    cache.advance(1)
    cache.write(0, numbered(90, 5), numbered(90, 5))
    keys, values = cache.write(0, numbered(1, 2), numbered(1, 2))
    assert (visible(keys), visible(values)) == ([0, 1, 2], [0, 1, 2])
    assert cache.length == 1


def test_layers_and_rows_are_independent(tiny: Any) -> None:
    cache = cache_of(tiny, batch=3)
    cache.write(0, numbered(0, 2, 3), numbered(0, 2, 3))
    first, _ = cache.write(1, numbered(50, 2, 3), numbered(50, 2, 3))
    assert first.shape == (3, 2, 2, 8)
    cache.advance(2)
    keys, _ = cache.write(0, numbered(7, 1, 3), numbered(7, 1, 3))
    assert visible(keys) == [0, 1, 7]


def test_crop_drops_the_end(tiny: Any) -> None:
    cache = cache_of(tiny)
    cache.write(0, numbered(0, 5), numbered(0, 5))
    cache.advance(5)
    cache.crop(2)
    keys, _ = cache.write(0, numbered(40, 1), numbered(40, 1))
    assert visible(keys) == [0, 1, 40]


def test_the_whole_capacity_can_be_used_and_no_more(tiny: Any) -> None:
    cache = cache_of(tiny, capacity=3)
    cache.write(0, numbered(0, 2), numbered(0, 2))
    cache.advance(2)
    cache.write(0, numbered(2, 1), numbered(2, 1))
    with pytest.raises(ValueError, match="holds 3 tokens, 4 were asked for"):
        cache.write(0, numbered(2, 2), numbered(2, 2))


@pytest.mark.parametrize("count", [-1, 4])
def test_keeping_beyond_the_capacity_is_refused(tiny: Any, count: int) -> None:
    cache = cache_of(tiny, capacity=3)
    with pytest.raises(ValueError, match=f"cannot keep {count} more tokens after 0"):
        cache.advance(count)


@pytest.mark.parametrize("length", [-1, 3])
def test_cropping_beyond_the_kept_length_is_refused(tiny: Any, length: int) -> None:
    cache = cache_of(tiny)
    cache.advance(2)
    with pytest.raises(ValueError, match=f"cannot crop 2 tokens to {length}"):
        cache.crop(length)


def test_the_dtype_is_as_requested(tiny: Any) -> None:
    cache = cache_of(tiny, dtype=torch.bfloat16)
    keys, _ = cache.write(0, numbered(0, 1), numbered(0, 1))
    assert keys.dtype == torch.bfloat16


@pytest.mark.skipif(
    not (hasattr(mmap, "MADV_NOHUGEPAGE") and Path("/sys/kernel/mm/transparent_hugepage").exists()),
    reason="this system has no transparent huge pages",
)
def test_a_cache_takes_no_huge_pages(tiny: Any) -> None:
    """A huge page is memory for a thousand tokens and more, of which one is written."""
    cache, inside = cache_of(tiny, capacity=1000), False
    place = cache.keys[0].data_ptr()
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *others = line.split()
        if first == "VmFlags:" and inside:
            assert "nh" in others
            return
        if "-" in first:
            start, end = (int(bound, 16) for bound in first.split("-"))
            inside = start <= place < end
    pytest.fail("the buffer is in no mapping")
