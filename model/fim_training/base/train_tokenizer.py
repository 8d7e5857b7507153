"""Train the byte-level BPE tokenizer: `python -m fim_training.base.train_tokenizer`.

The pre-tokenizer is made for code: a newline with the indentation after it is one word, digits
stand alone, a word may start with one space or punctuation mark, and other punctuation comes in
runs. No normaliser, no added space: every text round-trips exactly.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

RESERVED_TOKENS = tuple(f"<|reserved_{number}|>" for number in range(4))
SPECIAL_TOKENS = (*SPECIAL_TOKEN_NAMES.values(), *RESERVED_TOKENS)
BYTE_VALUES = 256

UNITS = "|".join(
    (
        r"\n+[ \t]*",  # line ends, and the indentation of the next line
        r"\p{N}",  # one digit
        r"[^\r\n\p{L}\p{N}_]?[\p{L}_]+",  # a word, as in `.append`, `(self`, ` return`
        r" ?[^\s\p{L}\p{N}_]+",  # a run of punctuation, as in `)`, ` ==`
        r"[^\S\n]+(?!\S)",  # other white space, all but what belongs to a following word
        r"[^\S\n]+",
    )
)


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train on texts; ids 0 to 15 are the special tokens, then come the 256 byte values.

    ValueError where the vocabulary has no room for these.
    """
    if vocab_size < (least := len(SPECIAL_TOKENS) + BYTE_VALUES):
        raise ValueError(f"a vocabulary of {vocab_size} is too small; at least {least} are needed")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(UNITS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def training_texts(corpus: Path) -> Iterator[str]:
    """The texts of a built corpus' train split. Raises ValueError where there is none."""
    split = corpus / "train.jsonl.gz"
    if not split.is_file():
        raise ValueError(f"no {split}; build it with python -m fim_training.corpus.build")
    return _texts(split)


def _texts(split: Path) -> Iterator[str]:
    with gzip.open(split, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def main(argv: Sequence[str] | None = None) -> int:
    """Train on a corpus folder's train split. Exit code 2 for a bad argument."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.base.train_tokenizer", description=__doc__
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the built corpus")
    parser.add_argument("--vocab-size", type=int, default=4096, help="number of ids")
    parser.add_argument("--out", type=Path, required=True, help="the tokenizer.json to write")
    arguments = parser.parse_args(argv)
    try:
        tokenizer = train(training_texts(arguments.corpus), arguments.vocab_size)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out))
    sys.stderr.write(f"{arguments.out}: {tokenizer.get_vocab_size()} tokens\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
