"""A narrow forward in the engine reuses its buffers instead of allocating from the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FORWARDS = """
import resource, sys
import torch
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.contract import forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fim_server.engine.allocator import return_large_buffers

torch.set_num_threads(1)
width, enabled, kept = map(int, sys.argv[1:])
if enabled:
    assert return_large_buffers()
config = ModelConfig(
    vocab_size=8192, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, intermediate_size=64, mask_token_id=1,
)
network = PackedTransformer.of(TriModeTransformer(config).requires_grad_(False))
cache = KVCache(network.config, capacity=256)
cache.advance(100)
tokens, places = torch.full((1, width), 4), torch.arange(100, 100 + width)[None]
outputs = []

def step():
    hidden = forward_one(network, tokens, places, Attention.BLOCK, cache)[0]
    found = network.scores(hidden)
    if kept:
        outputs.append(network.logits(hidden))

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.inference_mode():
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# The best of several after two others: the system may take pages back at any time.
print(min([faults() for _ in range(12)][2:]))
"""


def fewest_faults(width: int, *, enabled: bool = True, kept: bool = False) -> int:
    """Fewest page faults of a forward in a process with the engine's allocator settings.

    The vocabulary has a realistic size, so that logits are the largest buffer: 2.4 MB at width 72.
    kept: keep each forward's logits, so that the next one needs new memory.
    """
    command = [sys.executable, "-c", FORWARDS, str(width), str(int(enabled)), str(int(kept))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
@pytest.mark.parametrize("width", [1, 16, 72])
def test_forward_and_scores_reuse_their_buffers(width: int) -> None:
    assert fewest_faults(width) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_new_memory_would_be_counted() -> None:
    assert fewest_faults(72, kept=True) > 400
