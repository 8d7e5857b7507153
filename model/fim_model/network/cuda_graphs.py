"""Recording: a step over fixed buffers, captured as a CUDA graph and replayed.

Below a billion parameters a forward is bound by its hundred or so launches; a graph is one launch.
Without CUDA the same steps run unrecorded. The tests record them on a stand-in with a GPU's rules
(`tests/support/stand_in_gpu.py`); nothing has been captured on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

SMALLEST_SPAN = 512
"""Bounds of the cache length are this times a power of two."""

Step = Callable[[], None]

Record = Callable[[Step, Sequence[Tensor]], Callable[[], object]]
"""(step, the buffers that it both reads and changes) to the replay of the step."""


class Recording:
    """A step that runs unrecorded once, is recorded at its second use, and replayed from then on.

    The first run compiles its kernels; a step that is used only once costs no recording.
    """

    __slots__ = ("_record", "_replay", "_state", "_step", "_used")

    def __init__(self, step: Step, record: Record, state: Sequence[Tensor] = ()) -> None:
        """state: the buffers that the step changes and its next run reads."""
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

    A graph's launches are sized by the bound, so it must not be far above the length; and each
    bound is a graph of its own, so there must not be many.
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
    """The `Record` of CUDA: graphs that share one pool of temporary memory.

    A pool for each would take tens of megabytes for every width and document. Sharing is safe
    because a step leaves its results in buffers outside the pool, and graphs are replayed one after
    the other.
    """
    pool = torch.cuda.graph_pool_handle()
    return lambda step, state: capture(step, state, pool)


def capture(
    step: Callable[[], object], state: Sequence[Tensor] = (), pool: Any = None
) -> Callable[[], object]:
    """Capture `step` as a CUDA graph, in its own pool or a shared one (torch's handle).

    Returns its replay. Kernels must be compiled and cuBLAS's workspaces filled before recording, so
    the step runs twice first; `state` is restored after each of these runs.
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
    # Other threads may read their own results meanwhile, which must not abort the recording.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        step()  # recorded, not run
    return graph.replay
