"""Batching: the forwards of several threads as one pass over the weights.

A narrow forward costs reading the weights and launching the operations, however many holes share
it. So threads that fill holes at the same time meet at every forward: a thread waits until all
others have arrived, and the last one runs the forwards of all as one (`Network.forward_parts`),
each part over its own cache. Nothing is padded, and decoding modes need not know. A hole that is
filled alone never waits.

On a CPU a pass takes longer with every row. So it has at most PASS_ROWS there, and a hole that asks
for a token at a time does not wait until several others have read their prompts.

In float32 a hole gets the same tokens as alone (sums are taken in another order, which changes the
last bits).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.batch_parts import Part
from fim_model.network.contract import DeviceDrafting, Drafted, Drafts, Network
from fim_model.network.lora import DraftLora

PASS_ROWS = 96
"""Rows of a pass on a CPU, unless one forward alone has more: two pieces of a prompt
(`prompt_cache.PIECE`) are read one after the other."""


@dataclass(slots=True)
class BatchCounts:
    """forwards: those that decoding asked for. passes: those that ran."""

    forwards: int = 0
    passes: int = 0


@dataclass(frozen=True, slots=True)
class _ForwardCall:
    part: Part
    lora: DraftLora | None


@dataclass(frozen=True, slots=True)
class _LogitsCall:
    """hidden: `[N, D]`."""

    hidden: Tensor


@dataclass(frozen=True, slots=True)
class _ScoresCall:
    """hidden: `[N, D]`."""

    hidden: Tensor


@dataclass(frozen=True, slots=True)
class _DraftCall:
    drafts: Drafts
    count: int


_Wanted = _ForwardCall | _LogitsCall | _ScoresCall | _DraftCall
_Result = Tensor | TokenScores | Drafted


@dataclass(slots=True, eq=False)
class _Call:
    """What one thread waits for. Once it is `done`, it has a `result` or an `error`."""

    wanted: _Wanted
    result: _Result | None = None
    error: Exception | None = None
    done: bool = False


class BatchedNetwork:
    """A `Network` that threads share; outside of `filling` it is the network that it wraps."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.config, self.draft_lora = network.config, network.draft_lora
        self.counts = BatchCounts()
        self._changed = threading.Condition()
        self._filling: set[int] = set()
        self._waiting: list[_Call] = []
        self._busy = False

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """While inside, this thread's forwards wait for those of all other threads inside.

        A thread that is inside must not wait for another one by any other means: deadlock.
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
    def products(self) -> str:
        return self._network.products

    @property
    def device(self) -> torch.device:
        return self._network.device

    @property
    def dtype(self) -> torch.dtype:
        return self._network.dtype

    @property
    def cache_dtype(self) -> torch.dtype:
        return self._network.cache_dtype

    @property
    def device_drafting(self) -> DeviceDrafting | None:
        drafting = self._network.device_drafting
        return None if drafting is None else _DraftingInTurns(self, drafting)

    def forward_parts(self, parts: Sequence[Part], lora: DraftLora | None) -> list[Tensor]:
        """See `Network`: each part runs with the forwards of the other threads that are filling."""
        return [self._forward(part, lora) for part in parts]

    def placed(self, adapter: Adapter) -> Adapter:
        """See `Network`."""
        return self._network.placed(adapter)

    def _forward(self, part: Part, lora: DraftLora | None) -> Tensor:
        found = self._meet(_ForwardCall(part, lora))
        assert isinstance(found, Tensor)
        return found

    def take(self, drafts: Drafts, steps: int) -> Drafted:
        """Steps of one hole's drafts, while no other thread's work runs."""
        found = self._meet(_DraftCall(drafts, steps))
        assert isinstance(found, Drafted)
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        found = self._meet(_LogitsCall(hidden))
        assert isinstance(found, Tensor)
        return found

    def scores(self, hidden: Tensor) -> TokenScores:
        found = self._meet(_ScoresCall(hidden))
        assert isinstance(found, TokenScores)
        return found

    def _meet(self, wanted: _Wanted) -> _Result:
        """Wait for the other threads, if there are any, and return this thread's result."""
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
        """The calls to run next, taken off the queue; all threads that are filling have arrived.

        Rows for the vocabulary go first: their threads then arrive with the forward that the others
        wait for. Else it is the turn of the longest-waiting call: with the forwards of the
        same adapter and LoRA, the narrowest first, as far as they fit into the pass. Draft steps
        run alone.
        """
        chosen = [call for call in self._waiting if isinstance(call.wanted, _LogitsCall)]
        if not chosen:
            chosen = [call for call in self._waiting if isinstance(call.wanted, _ScoresCall)]
        if not chosen:
            first = self._waiting[0]
            chosen = self._fitting(first)
        self._waiting = [call for call in self._waiting if call not in chosen]
        return chosen

    def _fitting(self, first: _Call) -> list[_Call]:
        """A call and those that run in the same pass."""
        others = [
            call
            for call in self._waiting
            if call is not first and _same_pass(call.wanted, first.wanted)
        ]
        if self.device.type != "cpu":
            return [first, *others]
        chosen, rows = [first], _rows(first)
        for call in sorted(others, key=_rows):
            rows += _rows(call)
            if rows > PASS_ROWS:
                break
            chosen.append(call)
        return chosen

    def _run(self, calls: list[_Call]) -> None:
        """Run a round without holding the lock, then wake all threads."""
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
        """As one if possible; else one by one, so that an error reaches its own call."""
        if len(calls) > 1:
            with contextlib.suppress(Exception):
                for call, result in zip(calls, self._as_one(calls), strict=True):
                    call.result = result
                return
        for call in calls:
            try:
                call.result = self._alone(call.wanted)
            except Exception as error:
                call.error = error

    @torch.inference_mode()
    def _alone(self, wanted: _Wanted) -> _Result:
        if isinstance(wanted, _LogitsCall):
            return self._network.logits(wanted.hidden)
        if isinstance(wanted, _ScoresCall):
            return self._network.scores(wanted.hidden)
        if isinstance(wanted, _DraftCall):
            self._count(wanted.count, wanted.count)
            return wanted.drafts.run(wanted.count)
        self._count(1, 1)
        return self._network.forward_parts([wanted.part], wanted.lora)[0]

    @torch.inference_mode()
    def _as_one(self, calls: Sequence[_Call]) -> Sequence[_Result]:
        """The results of calls of one kind."""
        wanted = [call.wanted for call in calls]
        logits = [call.hidden for call in wanted if isinstance(call, _LogitsCall)]
        if logits:
            rows = self._network.logits(torch.cat(logits))
            return list(torch.split(rows, [len(hidden) for hidden in logits]))
        scores = [call.hidden for call in wanted if isinstance(call, _ScoresCall)]
        if scores:
            found = self._network.scores(torch.cat(scores))
            sizes = [len(rows) for rows in scores]
            fields = (found.token, found.confidence, found.entropy)
            each = zip(*(field.split(sizes) for field in fields), strict=True)
            return [TokenScores(*parts) for parts in each]
        forwards = [call for call in wanted if isinstance(call, _ForwardCall)]
        hidden = self._network.forward_parts([call.part for call in forwards], forwards[0].lora)
        self._count(len(forwards), 1)
        return hidden

    def _count(self, forwards: int, passes: int) -> None:
        with self._changed:
            self.counts.forwards += forwards
            self.counts.passes += passes


class _DraftingInTurns:
    """The device drafting of the wrapped network, one hole at a time: graphs are of one cache."""

    def __init__(self, network: BatchedNetwork, drafting: DeviceDrafting) -> None:
        self._network, self._drafting, self.widest = network, drafting, drafting.widest

    def begin(self, block: Part, masked: Tensor, threshold: float) -> Drafts:
        return _DraftsInTurns(self._network, self._drafting.begin(block, masked, threshold))


@dataclass(frozen=True, slots=True)
class _DraftsInTurns:
    network: BatchedNetwork
    drafts: Drafts

    def run(self, steps: int) -> Drafted:
        return self.network.take(self.drafts, steps)


def _rows(call: _Call) -> int:
    return call.wanted.part.width if isinstance(call.wanted, _ForwardCall) else 1


def _same_pass(a: _Wanted, b: _Wanted) -> bool:
    if not isinstance(a, _ForwardCall) or not isinstance(b, _ForwardCall):
        return False
    return a.lora is b.lora and a.part.cache.adapter is b.part.cache.adapter
