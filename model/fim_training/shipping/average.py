"""Average checkpoints weight by weight: `python -m fim_training.shipping.average`.

States of one run, or of runs from one start, lie in one basin: their mean is at least as good as a
state whose rate was brought to zero, and often better (arXiv 2209.14981, 2203.05482). Part of an
earlier state brings back what training on other text has cost (arXiv 2109.01903). Checkpoints that
were smoothed to be shipped average only with those that were trained from them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from fim_model.errors import CheckpointError
from fim_model.loading.attribution import copy_attribution
from fim_model.loading.checkpoint import load_model
from fim_model.loading.headers import TOKENIZER, read_json
from fim_model.network.transformer import TriModeTransformer

from fim_training.trainer.trainee import save_finetuned


def average(shares: Mapping[Path, float]) -> TriModeTransformer:
    """The mean of checkpoints, in float32, each counted by its share.

    Raises CheckpointError for fewer than two, for other shapes or another tokenizer than the
    first's, and ValueError for shares that are not positive.
    """
    if len(shares) < 2:
        raise CheckpointError("an average needs at least two checkpoints; give another one")
    if min(shares.values()) <= 0:
        raise ValueError("shares must be positive; leave out what is not to count")
    total = sum(shares.values())
    (first, share), *others = shares.items()
    mean, tokenizer = load_model(first, dtype=torch.float32), _tokens(first)
    for parameter in mean.parameters():  # they may be mapped from the file
        parameter.data = parameter.data * (share / total)
    for folder, share in others:
        model = load_model(folder, dtype=torch.float32)
        if model.config != mean.config or _tokens(folder) != tokenizer:
            raise CheckpointError(
                f"{folder} has another shape or tokenizer than {first}; only states of one run, "
                "or of runs from one start, can be averaged"
            )
        for parameter, other in zip(mean.parameters(), model.parameters(), strict=True):
            parameter.data.add_(other.data, alpha=share / total)
    return mean


def _tokens(folder: Path) -> object:
    return read_json(folder / TOKENIZER).get("model")


def _shares(spelled: Sequence[str]) -> dict[Path, float]:
    """`FOLDER` or `FOLDER=SHARE`, as on the command line. Raises ValueError."""
    found: dict[Path, float] = {}
    for each in spelled:
        folder, given, share = each.rpartition("=")
        try:
            found[Path(folder if given else each)] = float(share) if given else 1.0
        except ValueError:
            raise ValueError(f"{each}: the share must be a number, not {share!r}") from None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Average and save in bf16. Exit code 2 where the checkpoints do not match."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.shipping.average", description=__doc__
    )
    parser.add_argument("checkpoints", nargs="+", metavar="FOLDER[=SHARE]")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args(argv)
    try:
        shares = _shares(arguments.checkpoints)
        model = average(shares)
        save_finetuned(model, next(iter(shares)), arguments.out, {"averaged": str(len(shares))})
        for folder in shares:  # any of them may be the one that was saved without it
            copy_attribution(folder, arguments.out)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stderr.write(f"{arguments.out}: the average of {len(shares)} checkpoints\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
