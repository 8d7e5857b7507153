"""Memory that training takes, computed from a model's shape.

`python -m fim_training.trainer.finetune_memory --base FOLDER-OR-ID --lora-rank R` prints it; only
the checkpoint's JSON files are read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fim_model.errors import CheckpointError
from fim_model.loading import hub
from fim_model.loading.headers import parameter_count, read_config, weight_shapes
from fim_model.network.config import ModelConfig

from fim_training.trainer.lora_training import PROJECTIONS
from fim_training.trainer.objective import ROWS_AT_ONCE

HALF, WHOLE = 2, 4
"""Bytes of bf16 and of float32."""


def training_bytes(config: ModelConfig, lora_rank: int = 0) -> int:
    """Weights, masters, gradients and AdamW's memory, in bytes.

    Whole (rank 0): bf16 weights; for each of them a master, a gradient and two moments in float32.
    LoRA: bf16 weights that stay; updates, gradients and moments in float32.
    """
    total = parameter_count(config)
    shapes = weight_shapes(config)
    if lora_rank:
        names = [
            name for name in shapes if name.endswith(tuple(f"{p}.weight" for p in PROJECTIONS))
        ]
        updates = sum(lora_rank * sum(shapes[name]) for name in names)
        return total * HALF + updates * WHOLE * (1 + 1 + 2)
    return total * HALF + total * WHOLE * (1 + 1 + 2)


def activation_bytes(config: ModelConfig, positions: int, *, recompute: bool) -> int:
    """An estimate of the activations kept for the backward, in bytes, for a batch of `positions`.

    A layer keeps its input, both norms, queries, keys, values, the attention output, and three
    times the inner width, in bf16; with `recompute` only its input, and one layer's worth at a
    time.
    """
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    layer = 4 * config.hidden_size + (2 * heads + 2 * groups) * size + 3 * config.intermediate_size
    layers = config.num_hidden_layers
    kept = layers * config.hidden_size + layer if recompute else layers * layer
    # In bf16, in float32, and their gradient; the loss never holds more rows of them.
    logits = min(positions, ROWS_AT_ONCE) * config.vocab_size * (HALF + 2 * WHOLE)
    return positions * kept * HALF + logits


def main(argv: Sequence[str] | None = None) -> int:
    """Print the estimate in GB. Exit code 2 without such a checkpoint."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.trainer.finetune_memory", description=__doc__
    )
    parser.add_argument("--base", required=True, help="the checkpoint's folder or hub id")
    parser.add_argument("--lora-rank", type=int, default=0, help="0: the whole model learns")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--positions", type=int, default=2240, help="of a row, noisy ones included")
    arguments = parser.parse_args(argv)
    try:
        config = read_config(hub.describe(arguments.base))
    except CheckpointError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    state = training_bytes(config, arguments.lora_rank)
    positions = arguments.rows * arguments.positions
    kept, recomputed = (
        activation_bytes(config, positions, recompute=again) for again in (False, True)
    )
    sys.stdout.write(
        f"{parameter_count(config) / 1e9:.2f} B parameters; computed, not measured, in GB: "
        f"state {state / 1e9:.1f}; activations about {kept / 1e9:.1f}, "
        f"with recompute {recomputed / 1e9:.1f}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
