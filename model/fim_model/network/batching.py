"""Forwards of several holes at once: one pass over the weights for all that are being filled.

A forward of a few positions costs reading the weights and launching the operations, whoever it is
for. So holes that are filled side by side, each in a thread of its own, meet at every forward: who
comes waits until all who are under way have come, and the last one runs the forwards of all as one
(`Network.together`), each part over its own cache. Nothing is padded, and decoding modes know
nothing of it. A hole that is filled alone never waits, and its forwards are its own.

In float32 a hole's tokens are those that it would get alone (sums are taken in another order, which
shows in the last bits).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.attention_mask import AttentionPattern
from fim_model.network.batch_parts import Part
from fim_model.network.contract import Drafted, Drafts, Network
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.network.noisy_blocks import NoisyBlocks


@dataclass(slots=True)
class JointCounts:
    """forwards: those that decodings asked for. passes: those that were run for them."""

    forwards: int = 0
    passes: int = 0


@dataclass(frozen=True, slots=True)
class _Forward:
    part: Part
    lora: DraftLora | None


@dataclass(frozen=True, slots=True)
class _Logits:
    """hidden: `[N, D]`."""

    hidden: Tensor


@dataclass(frozen=True, slots=True)
class _Scores:
    """hidden: `[N, D]`."""

    hidden: Tensor


@dataclass(frozen=True, slots=True)
class _Steps:
    drafts: Drafts
    count: int


_Wanted = _Forward | _Logits | _Scores | _Steps
_Result = Tensor | TokenScores | Drafted


@dataclass(slots=True, eq=False)
class _Call:
    """What one thread waits for: `result` is there, or `error`, once it is `done`."""

    wanted: _Wanted
    result: _Result | None = None
    error: Exception | None = None
    done: bool = False


class JointModel:
    """A `Network` that threads share. Outside of `filling` it is the one that it was made of."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.config, self.draft_lora = network.config, network.draft_lora
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

    @property
    def device(self) -> torch.device:
        return self._network.device

    @property
    def dtype(self) -> torch.dtype:
        return self._network.dtype

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionPattern,
        cache: KVCache,
        lora: DraftLora | None = None,
    ) -> Tensor:
        """As `Network` has it; together with the forwards of the others who are filling."""
        if isinstance(attention, NoisyBlocks):
            raise ValueError("a training batch is not filled side by side with holes")
        found = self._meet(_Forward(Part(tokens, positions, attention, cache), lora))
        assert isinstance(found, Tensor)
        return found

    def together(self, parts: Sequence[Part], lora: DraftLora | None = None) -> list[Tensor]:
        return self._network.together(parts, lora)

    def drafts(self, block: Part, masked: Tensor, threshold: float) -> Drafts | None:
        """Each document's own: their steps are graphs of one cache, and are taken in turns."""
        drafts = self._network.drafts(block, masked, threshold)
        return None if drafts is None else _JointDrafts(self, drafts)

    def take(self, drafts: Drafts, steps: int) -> Drafted:
        """Steps of one hole's drafts, while no other thread's work runs."""
        found = self._meet(_Steps(drafts, steps))
        assert isinstance(found, Drafted)
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        found = self._meet(_Logits(hidden))
        assert isinstance(found, Tensor)
        return found

    def scores(self, hidden: Tensor) -> TokenScores:
        found = self._meet(_Scores(hidden))
        assert isinstance(found, TokenScores)
        return found

    def _meet(self, wanted: _Wanted) -> _Result:
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

        Rows for the vocabulary go first: their threads then come back for the forward that the
        others wait with. Else it is the turn of who waits longest: with all forwards that have its
        LoRA, or with its draft steps alone, which must not be taken twice.
        """
        chosen = [call for call in self._waiting if isinstance(call.wanted, _Logits)]
        if not chosen:
            chosen = [call for call in self._waiting if isinstance(call.wanted, _Scores)]
        if not chosen:
            first = self._waiting[0]
            chosen = [call for call in self._waiting if _same_pass(call.wanted, first.wanted)]
            chosen = chosen or [first]
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
    def _alone(self, wanted: _Wanted) -> _Result:
        if isinstance(wanted, _Logits):
            return self._network.logits(wanted.hidden)
        if isinstance(wanted, _Scores):
            return self._network.scores(wanted.hidden)
        if isinstance(wanted, _Steps):
            self._count(wanted.count, wanted.count)
            return wanted.drafts.run(wanted.count)
        self._count(1, 1)
        one = wanted.part
        return self._network(one.tokens, one.positions, one.attention, one.cache, wanted.lora)

    @torch.inference_mode()
    def _together(self, calls: Sequence[_Call]) -> Sequence[_Result]:
        """All want the same kind of thing."""
        asked = [call.wanted for call in calls]
        logits = [one.hidden for one in asked if isinstance(one, _Logits)]
        if logits:
            rows = self._network.logits(torch.cat(logits))
            return list(torch.split(rows, [len(hidden) for hidden in logits]))
        scores = [one.hidden for one in asked if isinstance(one, _Scores)]
        if scores:
            found = self._network.scores(torch.cat(scores))
            sizes = [len(one) for one in scores]
            fields = (found.token, found.confidence, found.entropy)
            each = zip(*(field.split(sizes) for field in fields), strict=True)
            return [TokenScores(*one) for one in each]
        forwards = [one for one in asked if isinstance(one, _Forward)]
        hidden = self._network.together([one.part for one in forwards], forwards[0].lora)
        self._count(len(forwards), 1)
        return hidden

    def _count(self, forwards: int, passes: int) -> None:
        with self._changed:
            self.counts.forwards += forwards
            self.counts.passes += passes


@dataclass(frozen=True, slots=True)
class _JointDrafts:
    model: JointModel
    drafts: Drafts

    def run(self, steps: int) -> Drafted:
        return self.model.take(self.drafts, steps)


def _same_pass(one: _Wanted, other: _Wanted) -> bool:
    return isinstance(one, _Forward) and isinstance(other, _Forward) and one.lora is other.lora
