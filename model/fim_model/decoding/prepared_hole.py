"""A completion or chat request in the terms of decoding, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.network.contract import Network
from fim_model.requests import ChatRequest, CompletionRequest


@dataclass(frozen=True, slots=True)
class PreparedHole:
    """What all stages of a completion share.

    mode, options: what the request's mode means for this model on this machine. prompt: the ids
    that the model reads. typed: what stands before the cursor and must be spelled by the hole's
    first tokens (token healing); always "" in mode `native`. stop: when a hole is done. behind:
    how many of the prompt's last ids stand behind the hole, for a model that reads both ways.
    """

    request: CompletionRequest | ChatRequest
    mode: str
    options: ModeOptions
    prompt: list[int]
    typed: str
    stop: StopRule
    behind: int = 0

    def open(self, model: Network, cache: PromptCache, sampler: Sampler) -> DecodingCore:
        """An empty hole after the prompt that the cache holds."""
        return DecodingCore(
            model,
            cache.kv,
            self.stop,
            sampler,
            block_size=self.options.block_size,
            prompt=self.prompt,
            typed=len(self.typed),
        )
