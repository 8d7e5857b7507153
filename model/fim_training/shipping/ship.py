"""Make the checkpoint that ships, in int8: `python -m fim_training.shipping.ship`.

    python -m fim_training.shipping.ship --model runs/default/checkpoint \\
        --corpus runs/multilingual --out runs/shipped

Weights are smoothed (`shipping/smooth.py`) by maxima over some files of the training corpus; alpha
is chosen by the loss on others, with the very products that a CPU will run. Of the numbers of
levels, the fewest within `--tolerated` of the best are taken: they compress best in the wheel. The
table of losses and zipped sizes goes to stdout.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from fim_model.errors import CheckpointError
from fim_model.loading.attribution import check_attribution
from fim_model.loading.checkpoint import CONFIG, load_model, save_int8
from fim_model.loading.load_network import load_network, multiplies_integers
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.contract import Network
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer

from fim_training.base.train_tokenizer import training_texts
from fim_training.shipping.card import table_row
from fim_training.shipping.smooth import activation_maxima, smooth

LENGTH = 512
"""Tokens of a file that are read."""
EVERY = 97
"""Files of the corpus between two that are read: neighbours are of one project."""
ZIP_LEVEL = 6
"""What builders of wheels compress with."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """loss: nats a token more than full weights, and its standard error. zipped: bytes."""

    alpha: float
    levels: int
    loss: float
    error: float
    zipped: int


def sample(texts: Iterator[str], tokenizer: CodeTokenizer, count: int) -> list[list[int]]:
    """The first tokens of `count` files, spread over the corpus."""
    spread = (text for text in islice(texts, 0, None, EVERY) if len(text) > LENGTH)
    return [tokenizer.encode(text[: 8 * LENGTH])[:LENGTH] for text in islice(spread, count)]


@torch.inference_mode()
def token_losses(network: Network, sequences: Sequence[list[int]]) -> torch.Tensor:
    """The loss of every token after the first, in nats, float32 `[tokens]`; keys and values are
    kept in the dtype that the server keeps them in."""
    found = []
    for tokens in sequences:
        ids = torch.tensor([tokens])
        cache = KVCache(network.config, capacity=len(tokens), dtype=network.cache_dtype)
        part = Part(ids, torch.arange(len(tokens))[None], Attention.CAUSAL, cache)
        [hidden] = network.forward_parts([part], None)
        logits = network.logits(hidden[0, :-1]).float()
        found.append(F.cross_entropy(logits, ids[0, 1:], reduction="none"))
    return torch.cat(found)


def zipped_size(folder: Path) -> int:
    """Bytes of the folder's weights in an archive."""
    size = 0
    for path in folder.glob("*.safetensors"):
        packer = zlib.compressobj(ZIP_LEVEL)
        with path.open("rb") as file:
            while some := file.read(2**20):
                size += len(packer.compress(some))
        size += len(packer.flush())
    return size


def chosen(found: Sequence[Attempt], tolerated: float, max_mb: float) -> Attempt:
    """The fewest levels whose best loss is within `tolerated` of the best, among those of at most
    `max_mb` zipped. Raises ValueError if there is none."""
    fitting = [attempt for attempt in found if attempt.zipped <= max_mb * 1e6]
    if not fitting:
        least = min(attempt.zipped for attempt in found) / 1e6
        raise ValueError(f"the smallest takes {least:.1f} MB zipped: give fewer --levels")
    best = min(attempt.loss for attempt in fitting)
    within = [attempt for attempt in fitting if attempt.loss <= best + tolerated]
    return min(within, key=lambda attempt: (attempt.levels, attempt.loss))


def attempt_all(
    folder: Path,
    maxima_on: Sequence[list[int]],
    judged_on: Sequence[list[int]],
    alphas: Sequence[float],
    levels: Sequence[int],
    scratch: Path,
) -> list[Attempt]:
    """Every alpha with every number of levels, as it would be loaded."""
    model = load_model(folder)
    maxima = activation_maxima(model, map(list, maxima_on))
    full = token_losses(model, judged_on)
    found = []
    for alpha in alphas:
        model = load_model(folder)
        smooth(model, maxima, alpha)
        for count in levels:
            save_int8(model, scratch, levels=count)
            network = load_network(scratch, weights="int8")
            more = token_losses(network, judged_on) - full
            error = float(more.std()) / len(more) ** 0.5
            found.append(Attempt(alpha, count, float(more.mean()), error, zipped_size(scratch)))
    return found


def smoothed(folder: Path, maxima_on: Sequence[list[int]], alpha: float) -> TriModeTransformer:
    """The model of a checkpoint in float32, ready to be rounded."""
    model = load_model(folder)
    smooth(model, activation_maxima(model, map(list, maxima_on)), alpha)
    return model


SHARD_BYTES = 45 * 10**6
"""Code forges take no file above 100 MB, and warn above 50."""


def write_shipped(model: TriModeTransformer, source: Path, out: Path, levels: int) -> None:
    """Weights and config, and every other file of the source as it is."""
    save_int8(model, out, levels=levels, shard_bytes=SHARD_BYTES)
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)  # written for their owner alone, but installed for everybody
    for path in sorted(source.iterdir()):
        kept = path.is_file() and path.name != CONFIG and ".safetensors" not in path.name
        if kept and path.resolve() != (out / path.name).resolve():
            shutil.copyfile(path, out / path.name)


def table(found: Sequence[Attempt]) -> str:
    """Markdown, a row for each attempt."""
    rows = ["| alpha | levels | nats a token more than full | zipped, MB |", "|---|---|---|---|"]
    for row in found:
        more = f"{row.loss:+.4f} ± {row.error:.4f}"
        rows.append(table_row([f"{row.alpha:g}", str(row.levels), more, f"{row.zipped / 1e6:.1f}"]))
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.shipping.ship")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the built corpus")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.35, 0.5, 0.65])
    parser.add_argument("--levels", type=int, nargs="+", default=[127, 95, 63])
    parser.add_argument("--files", type=int, default=16, help="for the maxima, and to judge")
    parser.add_argument(
        "--tolerated", type=float, default=0.002, help="nats a token that fewer levels may cost"
    )
    parser.add_argument("--max-mb", type=float, default=98, help="zipped size of the weights")
    given = parser.parse_args(argv)
    try:
        if given.model.resolve() == given.out.resolve():
            raise ValueError("--out must be another folder than --model")
        if any(not 1 <= count <= 127 for count in given.levels):
            raise ValueError("--levels must be from 1 to 127")
        if given.model.is_dir():
            check_attribution(given.model)
        if not multiplies_integers():
            raise ValueError(
                "this processor has no integer products, by which losses are measured; use one "
                "with AVX-512 VNNI"
            )
        tokenizer = read_tokenizer(given.model)
        files = sample(training_texts(given.corpus), tokenizer, 2 * given.files)
        maxima_on, judged_on = files[::2], files[1::2]
        if not judged_on:
            raise ValueError(f"{given.corpus}: there are too few files to sample")
        with tempfile.TemporaryDirectory(prefix="fim-ship-") as scratch:
            found = attempt_all(
                given.model, maxima_on, judged_on, given.alpha, given.levels, Path(scratch)
            )
        taken = chosen(found, given.tolerated, given.max_mb)
        write_shipped(
            smoothed(given.model, maxima_on, taken.alpha), given.model, given.out, taken.levels
        )
    except (CheckpointError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    tokens = sum(len(tokens) - 1 for tokens in judged_on)
    sys.stdout.write(
        f"{table(found)}\n\n{tokens} tokens. Taken: alpha {taken.alpha:g}, {taken.levels} levels.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
