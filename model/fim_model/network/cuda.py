"""A `Network` on CUDA: the fused forward over a document's cache, recorded as CUDA graphs.

A graph keeps what it was recorded with: the addresses of one cache's buffers, a width, a bound of
the length, who sees whom, and whether the draft LoRA takes part. Those are its key; the tokens,
positions, pattern and length are copied into its buffers before each replay.

On a CPU nothing is recorded and the same steps run through the same buffers. Tests record and
replay them under a GPU's rules (`tests/support/stand_in_gpu.py`); no GPU has run this yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.attention_mask import Attention, AttentionPattern
from fim_model.network.batch_parts import Part
from fim_model.network.cuda_drafts import DraftKey, RecordedDrafts
from fim_model.network.cuda_graphs import Record, Recording, as_it_is, capturing, span_bucket
from fim_model.network.fused_forward import DeviceCache, FusedTransformer
from fim_model.network.fused_network import FusedNetwork
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.noisy_blocks import NoisyBlocks

WIDEST_GRAPH = 128
"""Positions up to which launches show; a wider forward, a prefill, runs without a graph."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """What a recorded forward cannot change. attention None is any pattern among its tokens."""

    attention: Attention | None
    width: int
    visible: int
    lora: int | None


class RecordedForward:
    """One forward of `width` positions over one cache, between buffers that never move."""

    def __init__(
        self,
        model: FusedTransformer,
        cache: DeviceCache,
        key: StepKey,
        lora: DraftLora | None,
        record: Record,
    ) -> None:
        device, width = model.head.device, key.width
        self.key, self._model, self._cache, self._lora = key, model, cache, lora
        self.tokens = torch.zeros(1, width, dtype=torch.int64, device=device)
        self.positions = torch.zeros(1, width, dtype=torch.int64, device=device)
        # A padded position sees itself, for attention over nothing is not a number.
        self.pattern = torch.eye(width, dtype=torch.bool, device=device)
        size = model.config.hidden_size
        self.hidden = torch.zeros(1, width, size, dtype=model.head.dtype, device=device)
        self._recording = Recording(self._step, record)

    def __call__(self, tokens: Tensor, positions: Tensor, attention: AttentionPattern) -> Tensor:
        """As the network's call."""
        width = tokens.shape[1]
        self.tokens[:, :width].copy_(tokens)
        self.positions[:, :width].copy_(positions)
        if isinstance(attention, Tensor):
            self.pattern.fill_(False).fill_diagonal_(True)
            self.pattern[:width, :width].copy_(attention)
        self._recording()
        return self.hidden[:, :width]

    def _step(self) -> None:
        key = self.key
        attention = self.pattern if key.attention is None else key.attention
        self.hidden.copy_(
            self._model.forward(
                self.tokens, attention, self._cache, positions=self.positions,
                visible=key.visible, lora=self._lora,
            )
        )  # fmt: skip


class DeviceTransformer(FusedNetwork):
    """See the module; one row of tokens at a time."""

    def __init__(
        self,
        weights: FusedTransformer,
        draft_lora: DraftLora | None = None,
        *,
        record: Record | None = None,
    ) -> None:
        """`record` None is a CUDA graph on CUDA, elsewhere the step itself."""
        super().__init__(weights, draft_lora)
        self._record = record or (capturing() if weights.head.is_cuda else as_it_is)
        # With a cache its graphs go: they hold its addresses.
        self._recorded: WeakKeyDictionary[KVCache, _OfCache] = WeakKeyDictionary()

    @torch.inference_mode()
    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionPattern,
        cache: KVCache,
        lora: DraftLora | None = None,
    ) -> Tensor:
        """As `Network` has it. Raises ValueError for several rows and for training's pattern."""
        if tokens.shape[0] != 1 or isinstance(attention, NoisyBlocks):
            raise ValueError("the fused forward takes one row of tokens, and no training batch")
        end = cache.end(tokens.shape[1])
        kept = self._of(cache)
        width = _graph_width(attention, tokens.shape[1])
        if width is None or cache.length + width > cache.capacity:
            return self._weights.forward(
                tokens, attention, kept.cache, positions=positions, visible=end, lora=lora
            )
        key = StepKey(
            None if isinstance(attention, Tensor) else attention,
            width,
            span_bucket(cache.length + width, cache.capacity),
            None if lora is None else id(lora),
        )
        step = kept.steps.get(key)
        if step is None:
            step = kept.steps[key] = RecordedForward(
                self._weights, kept.cache, key, lora, self._record
            )
        return step(tokens, positions, attention)

    def together(self, parts: Sequence[Part], lora: DraftLora | None = None) -> list[Tensor]:
        """One after the other: a graph is of one cache."""
        return [self(one.tokens, one.positions, one.attention, one.cache, lora) for one in parts]

    def scores(self, hidden: Tensor) -> TokenScores:
        return self._weights.scores(hidden)

    @torch.inference_mode()
    def drafts(self, block: Part, masked: Tensor, threshold: float) -> RecordedDrafts | None:
        """As `Network` has it; None for a block that is too wide for a graph."""
        if block.width > WIDEST_GRAPH:
            return None
        cache, kept = block.cache, self._of(block.cache)
        visible = span_bucket(cache.length + block.width, cache.capacity)
        key = DraftKey(block.width, visible, threshold)
        drafts = kept.drafts.get(key)
        if drafts is None:
            drafts = kept.drafts[key] = RecordedDrafts(self._weights, kept.cache, key, self._record)
        drafts.open(block.tokens[0], masked, block.positions[0])
        return drafts

    def _of(self, cache: KVCache) -> _OfCache:
        """What is recorded over a cache, with the length that it has now."""
        kept = self._recorded.get(cache)
        if kept is None:
            kept = self._recorded[cache] = _OfCache(DeviceCache(cache), {}, {})
        kept.cache.length.fill_(cache.length)
        return kept


@dataclass(frozen=True, slots=True)
class _OfCache:
    cache: DeviceCache
    steps: dict[StepKey, RecordedForward]
    drafts: dict[DraftKey, RecordedDrafts]


def _graph_width(attention: AttentionPattern, width: int) -> int | None:
    """The width of the graph for a forward, None for one that is too wide to need any.

    Causal tokens do not see what is behind them and a pattern says who sees whom, so those are
    padded to a power of two; a block sees all of itself and has a width of its own.
    """
    if width > WIDEST_GRAPH:
        return None
    if attention is Attention.BLOCK:
        return width
    return 1 << (width - 1).bit_length()
