"""What the networks over a model's fused weights share, whichever way they run a forward."""

from __future__ import annotations

from typing import Self

import torch
from fim_kernels.matmul_int8 import IntegerWeight
from fim_kernels.types import Weight8Bit
from torch import Tensor

from fim_model.network.adapter import Adapter
from fim_model.network.contract import Shared
from fim_model.network.fused_forward import FusedTransformer, project
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import TriModeTransformer


class FusedNetwork:
    """The part of `Network` that depends only on the weights."""

    shared = Shared()

    def __init__(self, weights: FusedTransformer, draft_lora: DraftLora | None = None) -> None:
        self.config, self.draft_lora = weights.config, draft_lora
        self._weights = weights

    @classmethod
    def of(
        cls, model: TriModeTransformer, *, storage: torch.dtype | None = None, consume: bool = False
    ) -> Self:
        """`storage` of the layers' weights, None as they are: see `FusedTransformer.of`.

        `consume` empties the model's layers meanwhile, to free their memory.
        """
        weights = FusedTransformer.of(model, storage=storage, consume=consume)
        return cls(weights, model.draft_lora)

    def placed(self, adapter: Adapter) -> Adapter:
        """See `Network`."""
        return adapter.placed(self.dtype, self.device)

    @property
    def device(self) -> torch.device:
        return self._weights.norm.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weights.norm.dtype

    @property
    def cache_dtype(self) -> torch.dtype:
        """See `Network`."""
        return self.dtype

    @property
    def products(self) -> str:
        """See `Network`."""
        match self._weights.layers[0].qkv:
            case Weight8Bit():
                return "8-bit weights, bfloat16 rows"
            case IntegerWeight():
                return "8-bit integers"
            case full:
                return str(full.dtype).removeprefix("torch.")

    def logits(self, hidden: Tensor) -> Tensor:
        return project(hidden, self._weights.head)
