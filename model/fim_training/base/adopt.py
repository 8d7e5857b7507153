"""Adopt a pretrained base: `python -m fim_training.base.adopt`.

A GGUF file or a safetensors folder of a Llama-shaped model becomes a checkpoint of this project's
own layout, ready to be trained: the vocabulary is pruned to what the corpus uses, every byte gets
a token, and the ids 0 to 15 become this project's roles (mask, end of middle, file, ...).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from fim_model.errors import CheckpointError, ConfigError
from fim_model.families.fim_layouts import JOINED
from fim_model.loading.attribution import PROVENANCE
from fim_model.loading.checkpoint import load_model, write_weights
from fim_model.loading.gguf_file import read_gguf
from fim_model.loading.headers import CONFIG, TIED_HEAD, TOKENIZER, read_json
from fim_model.network.config import ModelConfig
from fim_model.network.rope import RopeConfig
from fim_model.prompt.byte_alphabet import Spelling, exact
from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES
from tokenizers import Tokenizer, pre_tokenizers
from torch import Tensor

from fim_training.base.train_tokenizer import SPECIAL_TOKENS, training_texts

EMBEDDINGS = "model.embed_tokens.weight"
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE")
TEXTS_AT_ONCE = 256
NOISE = 0.02
"""Standard deviation of the noise on new rows, relative to the embeddings'."""

# Tokens of similar purpose whose row a role starts from: the first that the base has.
BORROWED_ROWS: dict[str, tuple[str, ...]] = {
    "eom": ("<|endoftext|>", "</s>"),
    "eot": ("<|endoftext|>", "</s>"),
    "prefix": ("<file_sep>", "<|file_sep|>", "<|fim_prefix|>"),
    "suffix": ("<file_sep>", "<|file_sep|>", "<|fim_suffix|>"),
    "middle": ("<|im_start|>", "<|fim_middle|>"),
    "file": ("<filename>", "<|file_sep|>"),
    "snippet": ("<file_sep>", "<|file_sep|>"),
    "edit": ("<issue_start>",),
    "old": ("<issue_comment>",),
    "new": ("<issue_closed>",),
}


@dataclass(frozen=True, slots=True)
class Base:
    """A pretrained model in memory.

    tokenizer: the content of `tokenizer.json`. weights: float32, a tied head left out.
    provenance: where it came from and under which licence. licence: files to pass on.
    """

    config: ModelConfig
    tokenizer: dict[str, Any]
    weights: dict[str, Tensor]
    provenance: dict[str, str]
    licences: tuple[Path, ...] = ()


def read_base(place: str) -> Base:
    """Read a GGUF file, a checkpoint folder, or the GGUF file that an installed package ships.

    Raises CheckpointError, which names the file and what to do.
    """
    path = _packaged_gguf(place) or Path(place)
    if path.is_dir():
        model = load_model(path)
        raw = read_json(path / CONFIG)
        state = {n: t.clone() for n, t in model.state_dict().items() if n != TIED_HEAD}
        _check_tied(model.config, path)
        tokenizer = read_json(path / TOKENIZER)
        _check_byte_level(tokenizer, path)
        about = {"name": str(raw.get("_name_or_path") or path.name), "licence": ""}
        return Base(model.config, tokenizer, state, about, _licences(path))
    gguf = read_gguf(path)
    try:
        config = ModelConfig.from_hf(gguf.config)
    except ConfigError as wrong:
        raise CheckpointError(f"{path}: {wrong}") from None
    _check_tied(config, path)
    _check_byte_level(gguf.tokenizer, path)
    about = {"name": gguf.name or path.stem, "licence": gguf.licence, "file": path.name}
    licences = _licences(path.parent)
    if place != str(path):
        about["package"] = _distribution(place)
    return Base(config, gguf.tokenizer, dict(gguf.tensors()), about, licences)


def count_tokens(tokenizer: dict[str, Any], texts: Iterable[str]) -> Counter[int]:
    """The number of occurrences of each token id in these texts."""
    encoder, counts, left = Tokenizer.from_str(json.dumps(tokenizer)), Counter[int](), iter(texts)
    while some := list(islice(left, TEXTS_AT_ONCE)):
        for encoding in encoder.encode_batch_fast(some, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def prune_vocabulary(tokenizer: dict[str, Any], counts: Counter[int], size: int) -> list[str]:
    """The most frequent tokens that fit into `size` ids, in the order of their ids.

    Closed under merges: a kept token keeps the two that it is merged from, so that a text whose
    tokens are all kept is tokenised as before. All 256 bytes are kept; those that the base lacks
    are appended. Raises ConfigError for a size below roles and bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(SPECIAL_TOKENS) + len(alphabet)
    if size < least:
        raise ConfigError(f"a vocabulary of {size} is too small; at least {least} are needed")
    vocab: dict[str, int] = tokenizer["model"]["vocab"]
    texts = {token_id: text for text, token_id in vocab.items()}
    special = {token["id"] for token in tokenizer["added_tokens"]}
    parts = {left + right: (left, right) for left, right in _merges(tokenizer)}
    kept = set(alphabet)
    room = size - len(SPECIAL_TOKENS)
    for token_id, _ in counts.most_common():
        if token_id in special:
            continue
        needed = _with_parts(texts[token_id], parts, kept)
        if len(kept) + len(needed) > room:
            break
        kept |= needed
    missing = [byte for byte in alphabet if byte not in vocab]
    return sorted(kept & vocab.keys(), key=vocab.__getitem__) + missing


def adopt(base: Base, tokens: Sequence[str], seed: int = 0) -> Base:
    """The base with this project's roles at ids 0 to 15 and then these tokens.

    Kept tokens keep their embeddings; roles start from the rows in `BORROWED_ROWS`, other new
    tokens from the mean row. Noise keeps equal new rows apart in training.
    """
    vocab: dict[str, int] = base.tokenizer["model"]["vocab"]
    old = base.weights[EMBEDDINGS]
    generator = torch.Generator().manual_seed(seed)
    mean, spread = old.mean(dim=0), old.std()

    def new_row(start: Tensor) -> Tensor:
        noise = torch.randn(old.shape[1], generator=generator)
        return start + NOISE * spread * noise

    rows = []
    roles = {text: role for role, text in SPECIAL_TOKEN_NAMES.items()}
    for text in SPECIAL_TOKENS:
        borrowed = BORROWED_ROWS.get(roles.get(text, ""), ())
        source = next((vocab[name] for name in borrowed if name in vocab), None)
        rows.append(new_row(mean if source is None else old[source]))
    rows += [old[vocab[text]] if text in vocab else new_row(mean) for text in tokens]
    config = replace(
        base.config,
        vocab_size=len(rows),
        model_type="ministral3",
        mask_token_id=SPECIAL_TOKENS.index(SPECIAL_TOKEN_NAMES["mask"]),
        bos_token_id=None,
        eos_token_ids=(),
        fim_edits=True,
        fim_layout=JOINED.name,
    )
    weights = base.weights | {EMBEDDINGS: torch.stack(rows)}
    return replace(
        base, config=config, tokenizer=_tokenizer_of(base.tokenizer, tokens), weights=weights
    )


def write_base(base: Base, folder: Path) -> None:
    """Write a checkpoint in bf16 with its tokenizer, provenance and the base's licence files."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: t.to(torch.bfloat16).contiguous() for name, t in base.weights.items()}
    described = base.config.to_hf() | {"dtype": "bfloat16"}
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    (folder / TOKENIZER).write_text(
        json.dumps(base.tokenizer, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
    )
    (folder / PROVENANCE).write_text(json.dumps(base.provenance, indent=2) + "\n", encoding="utf-8")
    for licence in base.licences:
        shutil.copyfile(licence, folder / f"{licence.stem}.base{licence.suffix}")
    write_weights(state, folder)


def _tokenizer_of(raw: dict[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    vocab = {text: token_id for token_id, text in enumerate((*SPECIAL_TOKENS, *tokens))}
    merges = [
        [left, right]
        for left, right in _merges(raw)
        if left in vocab and right in vocab and left + right in vocab
    ]
    special = [
        {
            "id": token_id, "content": text, "special": True, "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": False,
        }
        for token_id, text in enumerate(SPECIAL_TOKENS)
    ]  # fmt: skip
    model = raw["model"] | {"vocab": vocab, "merges": merges, "unk_token": None}
    return raw | {
        "added_tokens": special, "model": model, "normalizer": None, "post_processor": None,
        "truncation": None, "padding": None,
    }  # fmt: skip


def _merges(tokenizer: dict[str, Any]) -> list[tuple[str, str]]:
    """Merges as pairs; older files write each as one string."""
    merges = tokenizer["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in pairs]


def _with_parts(text: str, parts: dict[str, tuple[str, str]], kept: set[str]) -> set[str]:
    """The token and the tokens that its merges need, without those kept already."""
    found, open_ = set[str](), [text]
    while open_:
        token = open_.pop()
        if token not in kept and token not in found:
            found.add(token)
            open_ += parts.get(token, ())
    return found


def _check_tied(config: ModelConfig, path: Path) -> None:
    if not config.tie_word_embeddings or config.query_bias or config.mlp_bias:
        raise CheckpointError(
            f"{path}: only models with tied embeddings and without biases can be adopted; "
            "take a Llama of that shape, such as SmolLM2"
        )
    if config.rope != RopeConfig(rope_theta=config.rope.rope_theta):
        raise CheckpointError(f"{path}: a base with stretched positions cannot be adopted")


def _check_byte_level(tokenizer: dict[str, Any], path: Path) -> None:
    try:
        _, spelling = exact(Tokenizer.from_str(json.dumps(tokenizer)))
    except Exception as unfit:  # those of `tokenizers` have no class of their own
        raise CheckpointError(f"{path}: its tokenizer cannot be used ({unfit})") from None
    if spelling is not Spelling.BYTE_LEVEL or tokenizer["model"].get("type") != "BPE":
        raise CheckpointError(
            f"{path}: only models with a byte-level BPE tokenizer can be adopted, and this one's "
            "is another (SentencePiece's, such as Llama 2's, is); take a base such as SmolLM2"
        )


def _packaged_gguf(name: str) -> Path | None:
    """The one GGUF file of an installed package, found without importing it."""
    if not name.isidentifier() or Path(name).exists():
        return None
    spec = importlib.util.find_spec(name)
    for folder in (spec and spec.submodule_search_locations) or ():
        return next(iter(sorted(Path(folder).rglob("*.gguf"))), None)
    return None


def _distribution(module: str) -> str:
    from importlib.metadata import packages_distributions, version

    name = packages_distributions().get(module, [module])[0]
    return f"{name} {version(name)}"


def _licences(folder: Path) -> tuple[Path, ...]:
    """Licence files beside a checkpoint, or in the metadata of the package that ships it."""
    metadata = [f for f in folder.parent.glob(f"{folder.name}-*.dist-info") if f.is_dir()]
    places = [folder, *metadata, *(place / "licenses" for place in metadata)]
    return tuple(p / name for p in places for name in LICENCE_FILES if (p / name).is_file())


def main(argv: Sequence[str] | None = None) -> int:
    """Write a base checkpoint. Exit code 2 for a bad argument."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.base.adopt", description=__doc__)
    parser.add_argument(
        "--base", required=True,
        help="a GGUF file, a checkpoint folder, or an installed package that ships a GGUF file",
    )  # fmt: skip
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the built corpus")
    parser.add_argument("--vocab-size", type=int, default=16_384, help="most ids to keep")
    parser.add_argument("--every", type=int, default=4, metavar="N", help="count every N-th file")
    parser.add_argument(
        "--window", type=int, default=2048, help="tokens that the model will be trained to read"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args(argv)
    try:
        texts = training_texts(arguments.corpus)
        base = read_base(arguments.base)
        counts = count_tokens(base.tokenizer, islice(texts, 0, None, max(arguments.every, 1)))
        if not counts.total():
            raise ValueError(f"{arguments.corpus}: its training texts are empty; build it again")
        tokens = prune_vocabulary(base.tokenizer, counts, arguments.vocab_size)
        config = replace(base.config, max_position_embeddings=arguments.window)
        write_base(adopt(replace(base, config=config), tokens), arguments.out)
    except (CheckpointError, ConfigError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    kept = {base.tokenizer["model"]["vocab"].get(token) for token in tokens}
    share = sum(counts[token_id] for token_id in kept if token_id is not None) / counts.total()
    sys.stderr.write(
        f"{arguments.out}: {len(SPECIAL_TOKENS) + len(tokens)} tokens, which cover {share:.2%} "
        "of the corpus\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
