"""The choice of the network that runs a model, made once, where a checkpoint is loaded, and of the
operations that train one."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import torch
from fim_kernels.dispatch import references_alone

from fim_model.network.contract import Network
from fim_model.network.transformer import TriModeTransformer

if TYPE_CHECKING:
    from fim_model.network.cpu import PackedTransformer

Weights = Literal["full", "int8"]
"""How the layers' matrices are stored: unchanged, or in 8 bits with a scale for each row."""

ByteProducts = Literal["onnx", "onednn", "bfloat16"]
"""With rows of bytes, by ONNX Runtime (`cpu_onnx`) or oneDNN (`fim_kernels.matmul_int8`), or with
rows of bfloat16 (`fim_kernels.matmul_8bit`), which every processor multiplies."""


def fast_network(model: TriModeTransformer, weights: Weights = "full") -> Network:
    """The fastest network for the model's device. The model's layers are emptied."""
    storage = torch.int8 if weights == "int8" else None
    if model.device.type == "cuda":
        from fim_model.network.cuda import DeviceTransformer

        return DeviceTransformer.of(model, storage=storage, consume=True)
    if storage is not None:
        return integer_network().of(model, storage=storage, consume=True)
    from fim_model.network.cpu import PackedTransformer

    return PackedTransformer.of(model, consume=True)


def differentiable_operations() -> AbstractContextManager[None]:
    """While inside, a GPU runs the operations that have a backward, which this project's kernels
    have not; FIM_KERNELS takes precedence."""
    return nullcontext() if os.environ.get("FIM_KERNELS") else references_alone()


def integer_network() -> type[PackedTransformer]:
    """What multiplies 8-bit weights quickest on this CPU."""
    from fim_model.network import cpu, cpu_onnx

    return cpu_onnx.OnnxTransformer if byte_products() == "onnx" else cpu.PackedTransformer


def byte_products() -> ByteProducts:
    """What multiplies 8-bit weights on this CPU; the first that it has."""
    from fim_kernels import matmul_int8

    from fim_model.network import cpu_onnx

    if cpu_onnx.available():
        return "onnx"
    return "onednn" if matmul_int8.available() else "bfloat16"
