"""Revise a region of a text: the same text or a likelier one.

A region of any length is revised window by window (`decoding/revise_window.py`), left to right.
Each window sees the revised text before it through the cache, and the tokens after it as fixed
context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from fim_model.decoding.commit_rules import CommitRule, ConfidenceThreshold
from fim_model.decoding.core import DecodingCore, Step, StepListener, StopRule
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.revise_window import Revision, RevisionRule, revise_window
from fim_model.decoding.rewrite_drafts import tree_log_probabilities
from fim_model.decoding.sampling import Sampler
from fim_model.decoding.token_tree import TokenTree
from fim_model.errors import Cancelled
from fim_model.network.adapter import Adapter
from fim_model.network.contract import Network
from fim_model.prompt.fim_prompt import stepped_tail
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import WINDOW, fim_prompt


@dataclass(frozen=True, slots=True)
class RevisedRegion:
    """The region after revision.

    gain: by how many nats it became likelier, 0 if it is unchanged. confidence: geometric mean of
    the probabilities of its tokens, both sides in view.
    """

    text: str
    gain: float
    confidence: float
    forwards: int
    tokens: int


class RegionReviser:
    """Revises regions with a loaded model. Thread-safe as far as its network is."""

    def __init__(
        self,
        model: Network,
        tokenizer: CodeTokenizer,
        rule: RevisionRule | None = None,
        commit: CommitRule | None = None,
        *,
        adapter: Adapter | None = None,
    ) -> None:
        self.model, self.tokenizer, self.adapter = model, tokenizer, adapter
        self.fim = fim_prompt(model.config, tokenizer)
        self.rule, self.commit = rule or RevisionRule(), commit or ConfidenceThreshold()
        block = model.config.block_size
        self._context = max(1, block // 4)
        self._stride = max(1, block - self._context - 1)
        self._window = min(WINDOW, model.config.max_position_embeddings)

    def revise(
        self,
        before: str,
        region: str,
        after: str,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> RevisedRegion:
        """Revise `region` between the texts around it. Cancelled is raised between two forwards."""
        left = self.fim.plain(before, self._window // 2)
        inner = self.tokenizer.encode(region)
        right = self.tokenizer.encode(after[: 8 * self._context])[: self._context]
        # One mask for each token of a window, each row as wide as the window.
        capacity = self._window + self.model.config.block_size**2
        cache = self._cache(capacity)
        stop = StopRule(self.fim.eom, len(inner) + 1)
        gain, nats, forwards = 0.0, 0.0, 0
        for start in range(0, len(inner), self._stride):
            if should_stop():
                raise Cancelled
            text = stepped_tail([*left, *inner[:start]], self._window // 2, self._window // 8)
            *before_window, last = text
            if before_window:  # empty at the very beginning of a text
                cache.prefill(before_window, should_stop=should_stop)
            core = DecodingCore(self.model, cache.kv, stop, Sampler())
            part = inner[start : start + self._stride]
            following = [*inner[start + self._stride :], *right][: self._context]
            for event in self._revise_window(core, last, part, following):
                if isinstance(event, Step):
                    on_step(event)
                    if should_stop():
                        raise Cancelled
                else:
                    gain, nats = gain + event.gain, nats + event.log_probability
                    inner[start : start + len(part)] = event.tokens[1 : len(part) + 1].tolist()
            forwards += core.forwards + 1
        revised, count = self.tokenizer.decode(inner), len(inner)
        return RevisedRegion(revised, gain, math.exp(nats / max(1, count)), forwards, count)

    @torch.inference_mode()
    def gains(
        self,
        before: str,
        region: str,
        drafts: Sequence[str],
        after: str,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[float]:
        """By how many nats the text is likelier with each draft in the region's place.

        Read from left to right, with the beginning of what follows. Cancelled is raised between
        two forwards.
        """
        if not drafts:
            return []
        right = self.tokenizer.encode(after[: 8 * self._context])[: self._context]
        texts = [[*self.tokenizer.encode(text), *right] for text in (region, *drafts)]
        prompt = self.fim.plain(before, self._window // 2)
        tree = TokenTree.of(texts)
        cache = self._cache(len(prompt) + len(tree))
        logits = cache.prefill(prompt, tree, should_stop).logits
        old, *new = tree_log_probabilities(logits, tree, texts)
        return [nats - old for nats in new]

    def _cache(self, capacity: int) -> PromptCache:
        cache = PromptCache(self.model, capacity=capacity)
        cache.adapt(self.adapter)
        return cache

    def _revise_window(
        self, core: DecodingCore, last: int, part: list[int], following: list[int]
    ) -> Iterator[Step | Revision]:
        """The window is the token before it, the part to revise, and what follows it."""
        window = torch.tensor([last, *part, *following])
        editable = torch.zeros(len(window), dtype=torch.bool)
        editable[1 : len(part) + 1] = True
        return revise_window(core, window, editable, self.rule, self.commit)
