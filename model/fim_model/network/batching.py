"""Batching: the forwards of several threads as one pass over the weights.

A narrow forward costs reading the weights and launching the operations, however many holes share
it. So threads that fill holes at the same time meet at every forward: a thread waits until all
others have arrived, and one of them runs the forwards of all as one (`Network.forward_parts`),
each part over its own cache. Nothing is padded, and decoding modes need not know. A hole that is
filled alone never waits.

On a CPU a pass takes longer with every row. So it has at most PASS_ROWS there, and a hole that asks
for a token at a time does not wait until several others have read their prompts. A hole that is
given up leaves the queue before its next forward has run.

In float32 a hole gets the same tokens as alone (sums are taken in another order, which changes the
last bits).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.errors import Cancelled
from fim_model.network.adapter import Adapter
from fim_model.network.batch_parts import Part
from fim_model.network.contract import DeviceDrafting, Drafted, Drafts, Network, Shared
from fim_model.network.lora import DraftLora

PASS_ROWS = 96
"""Rows of a pass on a CPU, unless one forward alone has more: two pieces of a prompt
(`prompt_cache.PIECE`) are read one after the other."""

ASK_AGAIN = 0.02
"""Seconds after which a waiting thread asks whether its hole is given up: so early that what takes
its place arrives before the pass that runs has ended."""


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
    """What one thread waits for. Once it is `done`, it has a `result` or an `error`.

    seconds, rows: what the pass took, and how many rows of others it had.
    """

    wanted: _Wanted
    should_stop: Callable[[], bool]
    result: _Result | None = None
    error: Exception | None = None
    done: bool = False
    seconds: float = 0.0
    rows: int = 0


@dataclass(slots=True)
class _Filler:
    """A thread that fills a hole."""

    should_stop: Callable[[], bool]
    shared: Shared = field(default_factory=Shared)


class BatchedNetwork:
    """A `Network` that threads share; outside of `filling` it is the network that it wraps."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.config, self.draft_lora = network.config, network.draft_lora
        self.counts = BatchCounts()
        self._changed = threading.Condition()
        self._filling: dict[int, _Filler] = {}
        self._waiting: list[_Call] = []
        self._busy = False

    @contextlib.contextmanager
    def filling(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """While inside, this thread's forwards wait for those of all other threads inside.

        Once `should_stop`, which any of these threads asks, a forward that has not begun raises
        Cancelled. A thread that is inside must not wait for another one by any other means:
        deadlock.
        """
        me = threading.get_ident()
        with self._changed:
            outside = self._filling.get(me)
            self._filling[me] = _Filler(should_stop)
        try:
            yield
        finally:
            with self._changed:
                del self._filling[me]
                if outside is not None:
                    self._filling[me] = outside
                self._changed.notify_all()

    @property
    def shared(self) -> Shared:
        """See `Network`: counted from where this thread began `filling`."""
        filler = self._filling.get(threading.get_ident())
        return Shared() if filler is None else filler.shared

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
        began, filler = time.perf_counter(), self._filling.get(threading.get_ident())
        if filler is None:
            return self._alone(wanted)
        call = _Call(wanted, filler.should_stop)
        with self._changed:
            self._waiting.append(call)
            if self._all_arrived():
                self._changed.notify_all()
            while not call.done:
                if self._withdrawn():
                    continue
                # Only a thread that is in the round runs it: any other may leave meanwhile.
                if self._all_arrived() and call in (chosen := self._next_round()):
                    self._run(chosen)
                else:
                    self._changed.wait(ASK_AGAIN)
            waited = time.perf_counter() - began - call.seconds
            filler.shared = filler.shared.and_then(waited, call.rows)
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result

    def _withdrawn(self) -> bool:
        """Take the calls of holes that are given up off the queue; whether there were any."""
        given_up = [call for call in self._waiting if call.should_stop()]
        for call in given_up:
            self._waiting.remove(call)
            call.error, call.done = Cancelled(), True
        if given_up:
            self._changed.notify_all()
        return bool(given_up)

    def _all_arrived(self) -> bool:
        """Whether the next round can begin."""
        return not self._busy and len(self._waiting) >= len(self._filling)

    def _next_round(self) -> list[_Call]:
        """The calls to run next; all threads that are filling have arrived.

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
        """Take a round off the queue and run it without holding the lock, then wake all threads."""
        self._waiting = [call for call in self._waiting if call not in calls]
        self._busy = True
        self._changed.release()
        began = time.perf_counter()
        try:
            self._answer(calls)
        finally:
            seconds = time.perf_counter() - began
            self._changed.acquire()
            self._busy = False
            rows = sum(_rows(call) for call in calls)
            for call in calls:
                call.done, call.seconds, call.rows = True, seconds, rows - _rows(call)
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
    """Rows that go through the layers."""
    return call.wanted.part.width if isinstance(call.wanted, _ForwardCall) else 0


def _same_pass(a: _Wanted, b: _Wanted) -> bool:
    if not isinstance(a, _ForwardCall) or not isinstance(b, _ForwardCall):
        return False
    return a.lora is b.lora and a.part.cache.adapter is b.part.cache.adapter
