"""From a checkpoint's folder to the network that runs it, by the shortest way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from fim_kernels.matmul_8bit import quantise
from fim_kernels.types import Weight8Bit
from torch import Tensor

from fim_model.loading.checkpoint import (
    Read,
    check_weights,
    load_model,
    mapped_tensors,
    read_int8,
)
from fim_model.loading.draft_lora import plan_draft_lora, read_draft_lora
from fim_model.loading.headers import TIED_HEAD, read_quantization
from fim_model.loading.memory import check_memory, default_weights, return_freed_memory
from fim_model.loading.progress import Progress, unseen
from fim_model.network.choice import Weights, byte_products, fast_network, integer_network
from fim_model.network.config import ModelConfig
from fim_model.network.contract import Network
from fim_model.network.fused_forward import FusedLayer, FusedTransformer
from fim_model.network.transformer import RotaryEmbedding


def multiplies_integers() -> bool:
    """Whether this CPU multiplies stored int8 with rows of bytes."""
    return byte_products() != "bfloat16"


def load_network(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    weights: Weights | None = None,
    kv_tokens: int = 0,
    progress: Progress = unseen,
) -> Network:
    """The fastest network for a checkpoint on a device.

    weights: None is `FIM_WEIGHTS`, or else as they are stored. On a CPU in float32, 8-bit weights
    are made matrix by matrix, without a float copy of the model: stored int8 as it is, anything
    else, such as a GGUF file, quantised; elsewhere int8 is dequantised. The other parameters and
    errors are those of `load_model`.
    """
    stored_int8 = read_quantization(folder) is not None
    straight = device == "cpu" and dtype is torch.float32
    weights = weights or default_weights(stored_int8=straight and stored_int8)
    if straight and weights == "int8":
        return _eight_bit_network(folder, kv_tokens, progress, stored_int8=stored_int8)
    model = load_model(folder, dtype=dtype, device=device, kv_tokens=kv_tokens, progress=progress)
    return fast_network(model, weights)


def _eight_bit_network(
    folder: Path, kv_tokens: int, progress: Progress, *, stored_int8: bool
) -> Network:
    """A checkpoint in bytes. Of stored int8 no layer becomes float32 on the way, of others one
    matrix at a time."""
    network = integer_network()
    config = check_weights(folder)
    plan = plan_draft_lora(folder, config) if config.mask_token_id is not None else None
    check_memory(config, torch.float32, "cpu", folder, kv_tokens=kv_tokens, bytes_each=1)
    with mapped_tensors(folder, config) as read, torch.inference_mode():
        reader = _LayerReader(read, config, folder if stored_int8 else None)
        embedding = reader.matrix("model.embed_tokens.weight")
        weights = FusedTransformer(
            config,
            embedding,
            [network.prepared(layer, config) for layer in reader.layers(progress)],
            reader.vector("model.norm.weight"),
            embedding if config.tie_word_embeddings else reader.matrix(TIED_HEAD),
            RotaryEmbedding(config),
        )
        lora = None if plan is None else read_draft_lora(plan, dtype=torch.float32, device="cpu")
        made = network(weights, lora)
    return_freed_memory()
    return made


class _LayerReader:
    """The layers of a checkpoint in int8, with the products fused that `network/cpu.py` does as
    one.

    folder: of stored int8, for errors; None where matrices are quantised as they are read. What is
    kept is copied, and little: one view into the file would keep all of it resident.
    """

    def __init__(self, read: Read, config: ModelConfig, folder: Path | None) -> None:
        self._read, self._config, self._folder = read, config, folder

    def layers(self, progress: Progress) -> Iterator[FusedLayer]:
        """One after the other, so that only one layer's fused copy exists."""
        count = self._config.num_hidden_layers
        for number in range(count):
            yield self._layer(f"model.layers.{number}.")
            progress("Loading the model", (number + 1) / count)

    def matrix(self, *names: str) -> Weight8Bit:
        """The rows of these matrices as one."""
        parts = [self._integers(name) for name in names]
        narrow = [part.scale_bf16 for part in parts if part.scale_bf16 is not None]
        return Weight8Bit(
            torch.cat([part.values for part in parts]),
            torch.cat([part.scale for part in parts]),
            torch.cat(narrow) if len(narrow) == len(parts) else None,
        )

    def _integers(self, name: str) -> Weight8Bit:
        if self._folder is not None:
            return read_int8(self._read, name, self._folder)
        return quantise(self._read(name).float())

    def vector(self, *names: str) -> Tensor:
        """Norms or biases, one after the other, in float32."""
        return torch.cat([self._read(name).float() for name in names])

    def _layer(self, prefix: str) -> FusedLayer:
        config = self._config
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        qkv = [f"{attention}{name}_proj" for name in "qkv"]
        output, down = attention + "o_proj", mlp + "down_proj"
        gate_up = [mlp + "gate_proj", mlp + "up_proj"]
        return FusedLayer(
            input_norm=self.vector(prefix + "input_layernorm.weight"),
            qkv=self.matrix(*(name + ".weight" for name in qkv)),
            output=self.matrix(output + ".weight"),
            post_norm=self.vector(prefix + "post_attention_layernorm.weight"),
            gate_up=self.matrix(*(name + ".weight" for name in gate_up)),
            down=self.matrix(down + ".weight"),
            qkv_bias=self._bias(*qkv) if config.query_bias else None,
            output_bias=self._bias(output) if config.output_bias else None,
            gate_up_bias=self._bias(*gate_up) if config.mlp_bias else None,
            down_bias=self._bias(down) if config.mlp_bias else None,
        )

    def _bias(self, *names: str) -> Tensor:
        return self.vector(*(name + ".bias" for name in names))
