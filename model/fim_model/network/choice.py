"""The choice of the network that runs a model, made once, where a checkpoint is loaded."""

from __future__ import annotations

from typing import Literal

import torch

from fim_model.network.contract import Network
from fim_model.network.transformer import TriModeTransformer

Weights = Literal["full", "int8"]
"""How the layers' matrices are stored: unchanged, or in 8 bits with a scale for each row."""


def fast_network(model: TriModeTransformer, weights: Weights = "full") -> Network:
    """The fastest network for the model's device. The model's layers are emptied."""
    storage = torch.int8 if weights == "int8" else None
    if model.device.type == "cuda":
        from fim_model.network.cuda import DeviceTransformer

        return DeviceTransformer.of(model, storage=storage, consume=True)
    if storage is torch.int8:
        from fim_model.network.cpu_onnx import OnnxTransformer, available

        if available():
            return OnnxTransformer.of(model, storage=storage, consume=True)
    from fim_model.network.cpu import PackedTransformer

    return PackedTransformer.of(model, storage=storage, consume=True)
