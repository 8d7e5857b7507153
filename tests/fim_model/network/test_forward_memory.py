"""A narrow forward on a CPU takes no memory from the system: its buffers come back to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.kv_cache import KVCache

resource = pytest.importorskip("resource", reason="this system does not count page faults")


def fewest_faults(step: Callable[[], object]) -> int:
    """Pages that a run of `step` had to be given, in the best of several after two others: the
    system may take pages back at any time."""
    counts = []
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        step()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts[2:])


@torch.inference_mode()
@pytest.mark.parametrize("width", [1, 16, 72])
def test_forward_and_scores_reuse_their_buffers(tiny: Any, width: int) -> None:
    """With a real vocabulary: its logits are the largest buffer, 2.4 MB at width 72."""
    network = PackedTransformer.of(tiny.model(1, vocab_size=8192, max_position_embeddings=512))
    cache = KVCache(network.config, capacity=256)
    cache.advance(100)
    tokens, places = torch.full((1, width), 4), torch.arange(100, 100 + width)[None]
    step = lambda: network.scores(  # noqa: E731
        forward_one(network, tokens, places, Attention.BLOCK, cache)[0]
    )
    assert fewest_faults(step) == 0


def test_new_memory_would_be_counted() -> None:
    assert fewest_faults(lambda: torch.ones(2**26)) > 1000
