"""Give a trained checkpoint a larger vocabulary: `python -m fim_training.base.grow_vocabulary`.

New merges are learned after the tokenizer's own, on a corpus that may hold other languages than the
first. Old tokens keep their ids and embeddings; a new token starts with the mean embedding of the
old tokens that it is merged from. The result is a base for training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import torch
from fim_model.errors import CheckpointError
from fim_model.loading.checkpoint import load_model, save_checkpoint
from fim_model.loading.headers import TOKENIZER
from fim_model.network.transformer import TriModeTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from fim_training.base.train_tokenizer import training_texts

Pieces = tuple[int, ...]
"""A text as tokens of the old vocabulary."""

FIRST_STAND_IN = 0xF0000
"""Private characters that stand for old tokens while merges are learned; there are 65,534."""
TEXTS_AT_ONCE = 256


def grow(old: Tokenizer, texts: Iterable[str], size: int) -> tuple[Tokenizer, list[Pieces]]:
    """A BPE tokenizer of `size` ids, and the old tokens that each new one is merged from.

    The old merges come first, so that new tokens consist of tokens that the old tokenizer gives.
    Raises ValueError where the size is no larger, or where the texts repeat too little.
    """
    first = old.get_vocab_size(with_added_tokens=True)
    if size <= first:
        raise ValueError(f"the vocabulary has {first} entries already; give more than that")
    described = json.loads(old.to_str())
    vocab, merges = described["model"]["vocab"], described["model"]["merges"]
    grown: list[Pieces] = []
    for left, right in _new_merges(_words(old, texts), size - first):
        parts = ["".join(old.id_to_token(token) or "" for token in side) for side in (left, right)]
        merges.append(parts)
        # Two ways to the same text are two merges, but one token.
        if "".join(parts) not in vocab:
            vocab["".join(parts)] = first + len(grown)
            grown.append((*left, *right))
        if first + len(grown) == size:
            return Tokenizer.from_str(json.dumps(described)), grown
    raise ValueError(
        f"the corpus gives only {first + len(grown)} entries; ask for no more, or give a larger one"
    )


def _words(old: Tokenizer, texts: Iterable[str]) -> Counter[Pieces]:
    """The number of occurrences of each word, as old tokens; words of one token are left out."""
    found: Counter[Pieces] = Counter()
    left = iter(texts)
    while some := list(islice(left, TEXTS_AT_ONCE)):
        for encoding in old.encode_batch(some, add_special_tokens=False):
            placed = zip(encoding.word_ids, encoding.ids, strict=True)
            for _, word in groupby(placed, key=itemgetter(0)):
                pieces = tuple(token for _, token in word)
                if len(pieces) > 1:
                    found[pieces] += 1
    return found


def _new_merges(words: Counter[Pieces], tokens: int) -> Iterator[tuple[Pieces, Pieces]]:
    """The merges, most frequent first, that BPE learns where old tokens are the characters."""
    alphabet = sorted({_stand_in(token) for pieces in words for token in pieces})
    stand_ins = Tokenizer(models.BPE())
    stand_ins.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        # Some merges give no token of their own.
        vocab_size=len(alphabet) + tokens + tokens // 4,
        min_frequency=2, initial_alphabet=alphabet, show_progress=False,
    )  # fmt: skip
    spelled = (
        " ".join(["".join(map(_stand_in, pieces))] * count) for pieces, count in words.items()
    )
    stand_ins.train_from_iterator(spelled, trainer)
    for left, right in json.loads(stand_ins.to_str())["model"]["merges"]:
        yield _pieces(left), _pieces(right)


def _stand_in(token: int) -> str:
    return chr(FIRST_STAND_IN + token)


def _pieces(stand_ins: str) -> Pieces:
    return tuple(ord(character) - FIRST_STAND_IN for character in stand_ins)


def grow_model(model: TriModeTransformer, grown: Sequence[Pieces]) -> TriModeTransformer:
    """The same model with a row for each new token in its embeddings, and in its head."""
    config = replace(model.config, vocab_size=model.config.vocab_size + len(grown))
    larger = TriModeTransformer(config)
    state = model.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in state:
            state[name] = _with_means(state[name], grown)
    larger.load_state_dict(state)
    return larger


def _with_means(rows: Tensor, grown: Sequence[Pieces]) -> Tensor:
    means = [rows[list(pieces)].mean(dim=0) for pieces in grown]
    return torch.cat((rows, torch.stack(means)))


def main(argv: Sequence[str] | None = None) -> int:
    """Write a checkpoint with a larger vocabulary. Exit code 2 for a bad argument."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.base.grow_vocabulary", description=__doc__
    )
    parser.add_argument("--base", type=Path, required=True, help="a checkpoint's folder")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the built corpus")
    parser.add_argument("--vocab-size", type=int, default=8192, help="number of ids in all")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="learn from every N-th file"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args(argv)
    try:
        texts = training_texts(arguments.corpus)
        model = load_model(arguments.base)
        old = Tokenizer.from_file(str(arguments.base / TOKENIZER))
        if model.config.vocab_size != old.get_vocab_size(with_added_tokens=True):
            raise ValueError(f"{arguments.base}: the model has other ids than its tokenizer")
        sample = islice(texts, 0, None, max(arguments.every, 1))
        tokenizer, grown = grow(old, sample, arguments.vocab_size)
    except (CheckpointError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    save_checkpoint(grow_model(model, grown), arguments.out)
    tokenizer.save(str(arguments.out / TOKENIZER))
    sys.stderr.write(f"{arguments.out}: {tokenizer.get_vocab_size()} tokens\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
