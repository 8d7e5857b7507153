"""Forwards of several holes at once: one pass over the weights for all that are being filled.

A forward of a few positions costs reading the weights and launching the operations, whoever it is
for. So holes that are filled side by side, each in a thread of its own, meet at every forward: who
comes waits until all who are under way have come, and the last one runs the forwards of all as one
packed sequence `[1, T1 + T2 + …]`, each part over its own cache. Nothing is padded, and decoding
modes know nothing of it. A hole that is filled alone never waits, and its forwards are its own.

In float32 a hole's tokens are those that it would get alone (sums are taken in another order, which
shows in the last bits). Attention sees every part's keys under a mask, so its cost grows with the
square of the number of holes: a few are meant, not dozens.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fim_model.cache import KVCache
from fim_model.lora import DraftLora
from fim_model.noisy_blocks import NoisyBlocks
from fim_model.transformer import Attention, AttentionPattern, TriModeTransformer


@dataclass(slots=True)
class JointCounts:
    """forwards: those that decodings asked for. passes: those that were run for them."""

    forwards: int = 0
    passes: int = 0


@dataclass(frozen=True, slots=True)
class _Forward:
    """tokens, positions: int64 `[1, T]`; attention is among these T, all see the cache."""

    tokens: Tensor
    positions: Tensor
    attention: Attention | Tensor
    cache: KVCache
    lora: DraftLora | None

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    @property
    def span(self) -> int:
        return self.cache.length + self.width


@dataclass(frozen=True, slots=True)
class _Logits:
    """hidden: `[N, D]`."""

    hidden: Tensor


@dataclass(slots=True, eq=False)
class _Call:
    """What one thread waits for: `result` is there, or `error`, once it is `done`."""

    wanted: _Forward | _Logits
    result: Tensor | None = None
    error: Exception | None = None
    done: bool = False


class JointModel(TriModeTransformer):
    """A model that threads share. Outside of `filling` it is the model that it was made of."""

    def __init__(self, model: TriModeTransformer) -> None:
        """Takes over the modules of `model`; nothing is copied."""
        torch.nn.Module.__init__(self)
        self.config, self.draft_lora = model.config, model.draft_lora
        self.model, self.lm_head = model.model, model.lm_head
        self.training = model.training
        self.counts = JointCounts()
        self._changed = threading.Condition()
        self._filling: set[int] = set()
        self._waiting: list[_Call] = []
        self._busy = False

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """While inside, this thread's forwards wait for those of all other threads inside.

        A thread that is inside must not wait for another one by other means.
        """
        me = threading.get_ident()
        with self._changed:
            self._filling.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._filling.discard(me)
                self._changed.notify_all()

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionPattern,
        cache: KVCache | None = None,
        lora: DraftLora | None = None,
    ) -> Tensor:
        """As TriModeTransformer's; together with the forwards of the others who are filling."""
        if cache is None or len(tokens) != 1 or isinstance(attention, NoisyBlocks):
            return super().forward(tokens, positions, attention, cache, lora)
        return self._meet(_Forward(tokens, positions, attention, cache, lora))

    def logits(self, hidden: Tensor) -> Tensor:
        if hidden.ndim != 2:
            return super().logits(hidden)
        return self._meet(_Logits(hidden))

    def _meet(self, wanted: _Forward | _Logits) -> Tensor:
        """Wait for the others, unless there are none, and take one's own part of the result."""
        if threading.get_ident() not in self._filling:
            return self._alone(wanted)
        call = _Call(wanted)
        with self._changed:
            self._waiting.append(call)
            while not call.done:
                if self._busy or len(self._waiting) < len(self._filling):
                    self._changed.wait()
                else:
                    self._run(self._next_round())
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result

    def _next_round(self) -> list[_Call]:
        """The calls to run next, no longer waiting; all who are filling have come.

        Logits go first: their threads then come back for the forward that the others wait with.
        Forwards go with the one that waits longest, if they have its LoRA.
        """
        chosen = [call for call in self._waiting if isinstance(call.wanted, _Logits)]
        if not chosen:
            lora = _lora(self._waiting[0])
            chosen = [call for call in self._waiting if _lora(call) is lora]
        self._waiting = [call for call in self._waiting if call not in chosen]
        return chosen

    def _run(self, calls: list[_Call]) -> None:
        """Run a round without holding the lock; whoever may go on is woken."""
        self._busy = True
        self._changed.release()
        try:
            self._answer(calls)
        finally:
            self._changed.acquire()
            self._busy = False
            for call in calls:
                call.done = True
            self._changed.notify_all()

    def _answer(self, calls: list[_Call]) -> None:
        """Together where that works; else one by one, so that an error is told to its own call."""
        if len(calls) > 1:
            with contextlib.suppress(Exception):
                for call, result in zip(calls, self._together(calls), strict=True):
                    call.result = result
                return
        for call in calls:
            try:
                call.result = self._alone(call.wanted)
            except Exception as error:
                call.error = error

    @torch.inference_mode()
    def _alone(self, wanted: _Forward | _Logits) -> Tensor:
        if isinstance(wanted, _Logits):
            return super().logits(wanted.hidden)
        self._count(1)
        one = wanted
        return super().forward(one.tokens, one.positions, one.attention, one.cache, one.lora)

    @torch.inference_mode()
    def _together(self, calls: Sequence[_Call]) -> Sequence[Tensor]:
        rows = [call.wanted.hidden for call in calls if isinstance(call.wanted, _Logits)]
        if rows:
            return super().logits(torch.cat(rows)).split([len(one) for one in rows])
        parts = [call.wanted for call in calls if isinstance(call.wanted, _Forward)]
        hidden = super().forward(
            torch.cat([one.tokens for one in parts], dim=1),
            torch.cat([one.positions for one in parts], dim=1),
            packed_pattern(parts),
            PackedCache([one.cache for one in parts], [one.width for one in parts]),
            parts[0].lora,
        )
        self._count(len(parts))
        return hidden.split([one.width for one in parts], dim=1)

    def _count(self, forwards: int) -> None:
        with self._changed:
            self.counts.forwards += forwards
            self.counts.passes += 1


class PackedCache(KVCache):
    """Several caches (batch 1) as one, for a forward over their parts one behind the other.

    It can only be written to; keeping tokens is the business of each cache's own decoding.
    """

    def __init__(self, caches: Sequence[KVCache], widths: Sequence[int]) -> None:
        self._caches, self._widths = caches, widths
        self.length = sum(cache.length for cache in caches)
        self.capacity = sum(cache.capacity for cache in caches)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Place each part of `[1, kv_heads, T, head_dim]` in its cache; all that is visible of all
        caches, one behind the other."""
        keys, values = key.split(list(self._widths), dim=2), value.split(list(self._widths), dim=2)
        seen = [
            cache.write(layer, one_key, one_value)
            for cache, one_key, one_value in zip(self._caches, keys, values, strict=True)
        ]
        return torch.cat([one for one, _ in seen], dim=2), torch.cat(
            [one for _, one in seen], dim=2
        )


def packed_pattern(parts: Sequence[_Forward]) -> Tensor:
    """Boolean `[1, T1 + T2 + …, S1 + S2 + …]`: each part sees its own cache and tokens."""
    device = parts[0].tokens.device
    width, span = sum(one.width for one in parts), sum(one.span for one in parts)
    pattern = torch.zeros(1, width, span, dtype=torch.bool, device=device)
    row = column = 0
    for one in parts:
        new = column + one.cache.length
        pattern[0, row : row + one.width, column:new] = True
        pattern[0, row : row + one.width, new : new + one.width] = among_new(one, device)
        row, column = row + one.width, column + one.span
    return pattern


def among_new(one: _Forward, device: torch.device) -> Tensor:
    """Who (row) sees whom among a forward's own tokens, boolean `[T, T]`."""
    if isinstance(one.attention, Tensor):
        return one.attention.reshape(one.width, one.width)
    everyone = torch.ones(one.width, one.width, dtype=torch.bool, device=device)
    return everyone if one.attention is Attention.BLOCK else everyone.tril_()


def _lora(call: _Call) -> DraftLora | None:
    return call.wanted.lora if isinstance(call.wanted, _Forward) else None
