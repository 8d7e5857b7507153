"""Recording: a step over buffers that never move, as one CUDA graph that is replayed.

Below a billion parameters a forward is bound by its hundred or so launches; a graph makes them one.
Without CUDA the same steps run unrecorded. The tests record them on a stand-in that has a GPU's
rules (`tests/support/stand_in_gpu.py`); on a GPU itself nothing has been captured or replayed yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

SMALLEST_SPAN = 512
"""Cache bounds are this times a power of two."""

Step = Callable[[], None]

Record = Callable[[Step, Sequence[Tensor]], Callable[[], object]]
"""A step over fixed buffers, and those of them that it both reads and changes, to its replay."""


class Recording:
    """A step that runs as it is at first, is recorded at its second use, and replayed from there.

    The first run compiles its kernels; a step that is never asked for again costs no recording.
    """

    __slots__ = ("_record", "_replay", "_state", "_step", "_used")

    def __init__(self, step: Step, record: Record, state: Sequence[Tensor] = ()) -> None:
        """state: what the step changes and its next run reads."""
        self._step, self._record, self._state = step, record, state
        self._replay: Callable[[], object] | None = None
        self._used = False

    def __call__(self) -> None:
        if self._used and self._replay is None:
            self._replay = self._record(self._step, self._state)
        (self._replay or self._step)()
        self._used = True


def span_bucket(span: int, capacity: int) -> int:
    """The smallest bound `512 * 2^n`, or the capacity, that holds `span` keys.

    A graph's launches are sized by the bound, not by the length, so that bounds must not be far
    above it; and each bound is a graph, so that there must not be many.
    """
    if span > capacity:
        raise ValueError(f"the KV cache holds {capacity} tokens, {span} were asked for")
    bound = SMALLEST_SPAN
    while bound < span:
        bound *= 2
    return min(bound, capacity)


def as_it_is(step: Step, state: Sequence[Tensor]) -> Step:
    """The `Record` of a machine without graphs."""
    return step


def capturing() -> Record:
    """The `Record` of CUDA: graphs that share the memory that they need only while they run.

    One of its own for each would be tens of megabytes, for every width and document. Sharing is
    safe because a step leaves its results in buffers that were there before, and graphs are
    replayed one after the other.
    """
    pool = torch.cuda.graph_pool_handle()
    return lambda step, state: capture(step, state, pool)


def capture(
    step: Callable[[], object], state: Sequence[Tensor] = (), pool: Any = None
) -> Callable[[], object]:
    """`step` as a CUDA graph, in a pool of its own or a shared one (torch's handle): its replay.

    Compiling kernels and filling cuBLAS's workspaces must happen before recording, so the step is
    run for that first. `state` is put back after each of these runs, which are nobody's steps.
    """
    before = [tensor.clone() for tensor in state]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
            for tensor, old in zip(state, before, strict=True):
                tensor.copy_(old)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads may read their own results meanwhile; that must not spoil the recording.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        step()  # recorded, not run
    return graph.replay
