"""Smoothing: what is hard to round in activations becomes part of the weights (arXiv 2211.10438).

A column of activations that is large throughout is divided by a factor, and the weights that read
it are multiplied by it: the same function in full precision, but rows whose values are of one size
lose less when each becomes bytes with one scale. The factors are folded into what makes the
activations (norms, the rows of `up` and of `v`), so that nothing is computed at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from fim_model.network.attention_mask import Attention
from fim_model.network.transformer import Layer, TriModeTransformer
from torch import Tensor, nn

SMALLEST = 1e-5


@dataclass(frozen=True, slots=True)
class LayerMaxima:
    """The largest magnitude that each column of a product's input took, float32 `[columns]`."""

    qkv: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor


@torch.inference_mode()
def activation_maxima(
    model: TriModeTransformer, sequences: Iterable[list[int]]
) -> list[LayerMaxima]:
    """By layer, over causal forwards of these tokens. Raises ValueError for no sequence."""
    with _watched(model) as seen:
        for tokens in sequences:
            positions = torch.arange(len(tokens), device=model.device)[None]
            model(torch.tensor([tokens], device=model.device), positions, Attention.CAUSAL)
    if not seen:
        raise ValueError("there is no text to measure activations on")
    return [
        LayerMaxima(*(seen[product] for product in _products(layer))) for layer in _layers(model)
    ]


@torch.no_grad()
def smooth(model: TriModeTransformer, maxima: list[LayerMaxima], alpha: float) -> None:
    """Fold the factors `activation^alpha / weight^(1 - alpha)` into the weights, in place.

    Their geometric mean is 1. Query heads that share a value head share its factors. The model's
    logits stay the same up to rounding; do it in float32. Raises ValueError for an alpha outside 0
    to 1, and for a model with a draft LoRA, which reads activations as they were.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    if model.draft_lora is not None:
        raise ValueError("a model with a draft LoRA cannot be smoothed; ship it without")
    groups, dim = model.config.num_key_value_heads, model.config.head_dim
    for layer, largest in zip(_layers(model), maxima, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        for norm, readers, columns in (
            (
                layer.input_layernorm,
                (attention.q_proj, attention.k_proj, attention.v_proj),
                largest.qkv,
            ),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj), largest.gate_up),
        ):
            weight_columns = torch.stack([_columns(reader) for reader in readers]).amax(0)
            factors = _factors(columns, weight_columns, alpha)
            norm.weight.div_(factors)
            for reader in readers:
                reader.weight.mul_(factors)
        factors = _factors(largest.down, _columns(mlp.down_proj), alpha)
        _divide_rows(mlp.up_proj, factors)
        mlp.down_proj.weight.mul_(factors)
        shared = (groups, -1, dim)
        factors = _factors(
            largest.output.view(shared).amax(1),
            _columns(attention.o_proj).view(shared).amax(1),
            alpha,
        )
        _divide_rows(attention.v_proj, factors.flatten())
        columns = attention.o_proj.weight.view(
            -1, groups, largest.output.numel() // (groups * dim), dim
        )
        columns.mul_(factors[:, None])


def _factors(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    activations, weights = activations.clamp(min=SMALLEST), weights.clamp(min=SMALLEST)
    factors = activations.pow(alpha) / weights.pow(1 - alpha)
    return factors / factors.log().mean().exp()


def _columns(linear: nn.Linear) -> Tensor:
    return linear.weight.abs().amax(0)


def _divide_rows(linear: nn.Linear, factors: Tensor) -> None:
    linear.weight.div_(factors[:, None])
    if linear.bias is not None:
        linear.bias.div_(factors)


def _layers(model: TriModeTransformer) -> Iterator[Layer]:
    for layer in model.model.layers:
        assert isinstance(layer, Layer)
        yield layer


def _products(layer: Layer) -> tuple[nn.Linear, ...]:
    """One reader of each input, in the order of `LayerMaxima`."""
    attention, mlp = layer.self_attn, layer.mlp
    return attention.q_proj, attention.o_proj, mlp.gate_proj, mlp.down_proj


@contextmanager
def _watched(model: TriModeTransformer) -> Iterator[dict[nn.Linear, Tensor]]:
    """The maxima of each product's input, kept while the model runs in here."""
    seen: dict[nn.Linear, Tensor] = {}

    def look(product: nn.Linear, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        largest = inputs[0].abs().flatten(0, -2).amax(0)
        seen[product] = torch.maximum(seen[product], largest) if product in seen else largest

    hooks = [
        product.register_forward_pre_hook(partial(look, product))
        for layer in _layers(model)
        for product in _products(layer)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
