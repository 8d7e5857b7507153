"""A denoising step as one CUDA graph: forward, scores, selection and canvas update, replayed.

Below a billion parameters a step is bound by its hundred or so launches; a graph makes them one.
Everything a step reads or writes lives in buffers that never move: the canvas, the cache and its
length, the results. Graphs exist for a few widths and a few bounds of the cache length, each for
the three kinds of step; a step of a kind not seen before is captured on first use.

Without CUDA the same steps run without capture, which is how they are tested. Capture and replay
themselves need a GPU; until a machine with one has run `pytest -m gpu`, they have not been run.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from fim_kernels.commit import DeviceCanvas, commit_confident
from torch import Tensor

from fim_model.fused import DeviceCache, FusedTransformer, OutputUpdate
from fim_model.transformer import Attention

SMALLEST_SPAN = 512
"""Cache bounds are this times a power of two."""


class StepKind(Enum):
    DRAFT = "draft"
    VERIFY = "verify"
    COMMIT = "commit"


class DeviceSteps:
    """Denoises blocks of one width over one cache (batch 1), one replay a step.

    canvas: the block. left: int32 `[1]`, masks left after the last draft. accepted: int32 `[1]`,
    tokens the last verify kept. choices: int64 `[width]`, the causal arg-max behind each token of
    the last verify or commit. All on the device; reading one is what waits for it.
    """

    def __init__(
        self,
        model: FusedTransformer,
        cache: DeviceCache,
        width: int,
        *,
        threshold: float = 0.9,
        lora: OutputUpdate | None = None,
    ) -> None:
        device = cache.length.device
        self.model, self.cache, self.width, self.threshold = model, cache, width, threshold
        self.lora = lora
        self.canvas = DeviceCanvas.empty(1, width, device)
        self.left = torch.zeros(1, dtype=torch.int32, device=device)
        self.accepted = torch.zeros(1, dtype=torch.int32, device=device)
        self.choices = torch.zeros(width, dtype=torch.int64, device=device)
        self._rows = torch.arange(width, device=device)
        self._graphs: dict[tuple[StepKind, int], Callable[[], None]] = {}

    def open(self, seed: int, confidence: float) -> None:
        """Start a block as `[seed, MASK x (width - 1)]`."""
        device = self.left.device
        self.canvas.open(
            torch.tensor([seed], device=device),
            torch.tensor([confidence], device=device),
            self.model.config.mask_id,
        )

    def denoise(
        self,
        length: int,
        *,
        poll_every: int = 2,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> int:
        """Draft steps until no mask is left or `cancelled()`; returns how many steps were replayed.

        length: tokens the cache keeps. The device is asked only every `poll_every` steps; a step
        replayed after the last mask changes nothing but the ages.
        """
        steps = 0
        for _ in range(self.width - 1):  # every step commits at least one mask
            self.run(StepKind.DRAFT, length)
            steps += 1
            if steps % poll_every == 0 and (cancelled() or not int(self.left)):
                break
        return steps

    def run(self, kind: StepKind, length: int) -> None:
        """One step over `length` kept tokens. Raises ValueError if the cache cannot hold it."""
        visible = span_bucket(length + self.width, self.cache.capacity)
        graph = self._graphs.get((kind, visible))
        if graph is None:
            graph = self._graphs[kind, visible] = self._prepare(kind, visible)
        graph()

    def _prepare(self, kind: StepKind, visible: int) -> Callable[[], None]:
        body = {
            StepKind.DRAFT: self._draft,
            StepKind.VERIFY: self._verify,
            StepKind.COMMIT: self._commit,
        }[kind]

        def step() -> None:
            body(visible)

        return capture(step, self._state()) if self.left.is_cuda else step

    def _state(self) -> list[Tensor]:
        """What steps change and the next step reads (the cache's own rows are scratch)."""
        canvas = self.canvas
        return [canvas.tokens, canvas.masked, canvas.confidence, canvas.age, self.cache.length]

    def _draft(self, visible: int) -> None:
        canvas = self.canvas
        hidden = self.model.forward(
            canvas.tokens, Attention.BLOCK, self.cache, visible=visible, lora=self.lora
        )
        rows = torch.where(canvas.masked[0], self._rows, -1)
        self.left.copy_(
            commit_confident(canvas, self.model.scores(hidden[0], rows), self.threshold)
        )

    def _verify(self, visible: int) -> None:
        """Keep the block's tokens as far as each is what the causal model says after those before.

        The seed stands whatever comes, so at least one token is kept; `choices[accepted - 1]` is
        the model's own next token, the seed of the next block.
        """
        tokens = self.canvas.tokens
        hidden = self.model.forward(tokens, Attention.CAUSAL, self.cache, visible=visible)
        self.choices.copy_(self.model.scores(hidden[0]).token)
        agree = (self.choices[:-1] == tokens[0, 1:]).int()
        self.accepted.copy_(1 + agree.cumprod(0).sum(dtype=torch.int32))
        self.cache.length.add_(self.accepted)

    def _commit(self, visible: int) -> None:
        """Write the finished block's keys causally; `choices[-1]` seeds the next block."""
        tokens = self.canvas.tokens
        hidden = self.model.forward(tokens, Attention.CAUSAL, self.cache, visible=visible)
        self.choices[-1:].copy_(self.model.scores(hidden[0, -1:]).token)
        self.cache.length.add_(self.width)


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


def capture(step: Callable[[], object], state: list[Tensor]) -> Callable[[], None]:
    """Record `step` as a CUDA graph and return its replay.

    Compiling kernels and filling cuBLAS's workspaces must happen before recording, so the step is
    run for that first. `state` is put back after each run: a step that lengthens the cache would
    write behind its end otherwise.
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
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()  # recorded, not run
    return graph.replay
