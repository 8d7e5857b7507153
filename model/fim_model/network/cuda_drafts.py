"""Draft steps that stay on the device: forward, scores, selection and canvas update as one graph.

A step taken by the host costs some ten operations on a tiny canvas and several waits for the
device, which idles meanwhile. Here the host launches a few steps in a row and then reads the block
once; the ages of the tokens say which step revealed which.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fim_kernels.commit import commit_confident
from fim_kernels.types import DeviceCanvas
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import Drafted
from fim_model.network.cuda_graphs import Record, Recording
from fim_model.network.fused_forward import DeviceCache, FusedTransformer


@dataclass(frozen=True, slots=True)
class DraftKey:
    """What is fixed in a recorded draft step."""

    width: int
    visible: int
    threshold: float


class RecordedDrafts:
    """Implements `Drafts`: steps over blocks of one width and one cache, one replay a step.

    All state is in buffers: the canvas, the positions, and the report, float64 `[4, width]` of
    tokens, masks, confidences and ages, so that one transfer brings them all (exactly: ids and ages
    are whole numbers below 2^53).
    """

    def __init__(
        self,
        model: FusedTransformer,
        cache: DeviceCache,
        key: DraftKey,
        adapter: Adapter | None,
        record: Record,
    ) -> None:
        device = model.norm.device
        self._model, self._cache, self._key, self._adapter = model, cache, key, adapter
        self._canvas = DeviceCanvas.empty(1, key.width, device)
        self._positions = torch.zeros(1, key.width, dtype=torch.int64, device=device)
        self._report = torch.zeros(4, key.width, dtype=torch.float64, device=device)
        self._rows = torch.arange(key.width, device=device)
        canvas = self._canvas
        state = [canvas.tokens, canvas.masked, canvas.confidence, canvas.age]
        self._recording = Recording(self._step, record, state)

    def open(self, tokens: Tensor, masked: Tensor, positions: Tensor) -> None:
        """Start over with a block: int64, bool, int64 `[width]`, on the CPU."""
        self._canvas.tokens[0].copy_(tokens)
        self._canvas.masked[0].copy_(masked)
        self._canvas.confidence.zero_()
        self._canvas.age.zero_()
        self._positions[0].copy_(positions)

    @torch.inference_mode()
    def run(self, steps: int) -> Drafted:
        """See `Drafts`. The only wait for the device is at the end."""
        for _ in range(steps):
            self._recording()
        tokens, masked, confidence, age = self._report.cpu()
        return Drafted(tokens.long(), masked.bool(), confidence.float(), age.long())

    def _step(self) -> None:
        canvas, key = self._canvas, self._key
        hidden = self._model.forward(
            canvas.tokens, Attention.BLOCK, self._cache, positions=self._positions,
            visible=key.visible, adapter=self._adapter,
        )  # fmt: skip
        rows = torch.where(canvas.masked[0], self._rows, -1)
        commit_confident(canvas, self._model.scores(hidden[0], rows), key.threshold)
        fields = (canvas.tokens, canvas.masked, canvas.confidence, canvas.age)
        for row, field in zip(self._report, fields, strict=True):
            row.copy_(field[0])
