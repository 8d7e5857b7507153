"""Merge an adapter into its base: `python -m fim_training.shipping.merge_lora`.

The result is a whole checkpoint in the base's own layout, in bf16, which the server loads as it
loads the base.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from fim_model.errors import CheckpointError
from fim_model.loading import hub
from fim_model.loading.checkpoint import load_model

from fim_training.trainer.lora_training import load_adapter
from fim_training.trainer.trainee import save_finetuned


def main(argv: Sequence[str] | None = None) -> int:
    """Merge and save. Exit code 2 where adapter and base do not match."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.shipping.merge_lora", description=__doc__
    )
    parser.add_argument("--base", required=True, help="the checkpoint's folder or hub id")
    parser.add_argument("--adapter", type=Path, required=True, help="the adapter's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args(argv)
    try:
        base = hub.resolve(arguments.base)
        model = load_model(base, dtype=torch.bfloat16)
        load_adapter(model, arguments.adapter)
        save_finetuned(model, base, arguments.out, {"adapter": arguments.adapter.name})
    except CheckpointError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stderr.write(f"{arguments.out}: whole checkpoint, adapter merged in\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
