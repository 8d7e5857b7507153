"""The network on CUDA: the fused forward over a document's cache, recorded as CUDA graphs.

A graph fixes what it was recorded with: the addresses of one cache's buffers, a width, a bound of
the length, the kind of attention, the cache's adapter and the draft LoRA. A cache's graphs go with
its adapter; the others are a graph's key. Tokens, positions, pattern and length are copied into its
buffers before each replay.

On a CPU nothing is recorded and the same steps run through the same buffers. Tests record and
replay them under a GPU's rules (`tests/support/stand_in_gpu.py`); it has not run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.contract import DeviceDrafting
from fim_model.network.cuda_drafts import DraftKey, RecordedDrafts
from fim_model.network.cuda_graphs import Record, Recording, as_it_is, capturing, span_bucket
from fim_model.network.fused_forward import DeviceCache, FusedTransformer
from fim_model.network.fused_network import FusedNetwork
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora

WIDEST_GRAPH = 128
"""Widest forward that is recorded. In a wider one, a prefill, launches cost little."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """What is fixed in a recorded forward. attention None: any pattern among its tokens."""

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
        adapter: Adapter | None,
        record: Record,
    ) -> None:
        device, width = model.norm.device, key.width
        self.key, self._model, self._cache = key, model, cache
        self._lora, self._adapter = lora, adapter
        self.tokens = torch.zeros(1, width, dtype=torch.int64, device=device)
        self.positions = torch.zeros(1, width, dtype=torch.int64, device=device)
        # A padded position sees itself: attention over nothing gives NaN.
        self.pattern = torch.eye(width, dtype=torch.bool, device=device)
        size = model.config.hidden_size
        self.hidden = torch.zeros(1, width, size, dtype=model.norm.dtype, device=device)
        self._recording = Recording(self._step, record)

    def __call__(self, tokens: Tensor, positions: Tensor, attention: Attention | Tensor) -> Tensor:
        """Hidden states `[1, T, hidden_size]`, in a buffer that the next call overwrites."""
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
                visible=key.visible, lora=self._lora, adapter=self._adapter,
            )
        )  # fmt: skip


class DeviceTransformer(FusedNetwork):
    """A `Network`; see the module."""

    def __init__(
        self,
        weights: FusedTransformer,
        draft_lora: DraftLora | None = None,
        *,
        record: Record | None = None,
    ) -> None:
        """`record` None is a CUDA graph on CUDA, elsewhere the step itself."""
        super().__init__(weights, draft_lora)
        self._record = record or (capturing() if weights.norm.is_cuda else as_it_is)
        # Weak keys: when a cache is freed, its graphs go too, for they hold its addresses.
        self._recorded: WeakKeyDictionary[KVCache, RecordedOfCache] = WeakKeyDictionary()

    @property
    def device_drafting(self) -> DeviceDrafting:
        return GraphDrafting(self)

    @torch.inference_mode()
    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`: one part after the other, because a graph belongs to one cache."""
        return [self._forward(part, lora) for part in parts]

    def _forward(self, part: Part, lora: DraftLora | None) -> Tensor:
        cache, attention = part.cache, part.attention
        end = cache.end(part.width)
        recorded = self.recorded(cache)
        width = _graph_width(attention, part.width)
        if width is None or cache.length + width > cache.capacity:
            return self._weights.forward(
                part.tokens, attention, recorded.cache,
                positions=part.positions, visible=end, lora=lora, adapter=cache.adapter,
            )  # fmt: skip
        key = StepKey(
            None if isinstance(attention, Tensor) else attention,
            width,
            span_bucket(cache.length + width, cache.capacity),
            None if lora is None else id(lora),
        )
        step = recorded.steps.get(key)
        if step is None:
            step = recorded.steps[key] = RecordedForward(
                self._weights, recorded.cache, key, lora, cache.adapter, self._record
            )
        return step(part.tokens, part.positions, attention)

    def scores(self, hidden: Tensor) -> TokenScores:
        return self._weights.scores(hidden)

    def recorded(self, cache: KVCache) -> RecordedOfCache:
        """The recordings over a cache with the adapter that it has now; its length on the device is
        set to its length now.

        Those with an earlier adapter are dropped: each holds that adapter, and memory of the
        device, and an adapter that is read again is another object.
        """
        recorded = self._recorded.get(cache)
        if recorded is None:
            recorded = self._recorded[cache] = RecordedOfCache(DeviceCache(cache), cache.adapter)
        recorded.use(cache.adapter)
        recorded.cache.length.fill_(cache.length)
        return recorded

    def record_drafts(
        self, cache: DeviceCache, key: DraftKey, adapter: Adapter | None
    ) -> RecordedDrafts:
        return RecordedDrafts(self._weights, cache, key, adapter, self._record)


class GraphDrafting:
    """Implements `DeviceDrafting` with the recordings of a network."""

    widest = WIDEST_GRAPH

    def __init__(self, network: DeviceTransformer) -> None:
        self._network = network

    @torch.inference_mode()
    def begin(self, block: Part, masked: Tensor, threshold: float) -> RecordedDrafts:
        """See `DeviceDrafting`. Raises ValueError if the cache is too small."""
        cache, recorded = block.cache, self._network.recorded(block.cache)
        visible = span_bucket(cache.length + block.width, cache.capacity)
        adapter = cache.adapter
        key = DraftKey(block.width, visible, threshold)
        drafts = recorded.drafts.get(key)
        if drafts is None:
            drafts = recorded.drafts[key] = self._network.record_drafts(
                recorded.cache, key, adapter
            )
        drafts.open(block.tokens[0], masked, block.positions[0])
        return drafts


@dataclass(slots=True)
class RecordedOfCache:
    """What is recorded over one cache with one adapter."""

    cache: DeviceCache
    adapter: Adapter | None
    steps: dict[StepKey, RecordedForward] = field(default_factory=dict)
    drafts: dict[DraftKey, RecordedDrafts] = field(default_factory=dict)

    def use(self, adapter: Adapter | None) -> None:
        """Drop what was recorded with another adapter."""
        if adapter is not self.adapter:
            self.adapter = adapter
            self.steps.clear()
            self.drafts.clear()


def _graph_width(attention: Attention | Tensor, width: int) -> int | None:
    """The width of the graph for a forward, None for one that is too wide to need one.

    Causal forwards and patterns are padded to a power of two, because no token sees the padding. A
    block sees all of itself, so its graph has its own width.
    """
    if width > WIDEST_GRAPH:
        return None
    if attention is Attention.BLOCK:
        return width
    return 1 << (width - 1).bit_length()
