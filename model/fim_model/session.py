"""The tokens of one document that the model has already read, and their keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor

from fim_model.cache import KVCache
from fim_model.transformer import Attention, TriModeTransformer


class PromptCache:
    """A KV cache that knows its tokens, so that the next prompt reads only what is new."""

    def __init__(self, model: TriModeTransformer, *, capacity: int) -> None:
        weight = model.lm_head.weight
        self.model = model
        self.kv = KVCache(model.config, capacity=capacity, dtype=weight.dtype, device=weight.device)
        self.tokens: list[int] = []

    @torch.inference_mode()
    def read(self, prompt: Sequence[int]) -> Reading:
        """One causal forward over what the cache does not hold of a non-empty prompt.

        Reused is the longest common prefix with what was read before, short of the last token,
        whose logits are wanted. Raises ValueError if the prompt does not fit the cache.
        """
        reused = min(common_prefix(self.tokens, prompt), len(prompt) - 1)
        self.rewind(reused)
        new = torch.tensor(prompt[reused:])
        positions = torch.arange(reused, len(prompt))
        hidden = self.model(new[None], positions[None], Attention.CAUSAL, self.kv)
        self.kv.advance(len(new))
        self.tokens = list(prompt)
        return Reading(self.model.logits(hidden[0, -1:]), reused, len(new))

    def rewind(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        self.kv.crop(length)
        self.tokens = self.tokens[:length]


class Reading:
    """What reading a prompt gave: logits `[1, V]` of what follows it, and its cost in tokens."""

    __slots__ = ("logits", "prefilled", "reused")

    def __init__(self, logits: Tensor, reused: int, prefilled: int) -> None:
        self.logits, self.reused, self.prefilled = logits, reused, prefilled


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
