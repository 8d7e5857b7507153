"""A tokenizer that was published as `vocab.json` and `merges.txt`, without a `tokenizer.json`.

Dream, DreamOn, Dream-Coder and DiffuCoder come so, with a Python file that reads them; that file is
not needed. Their words are cut as Qwen2's. Control tokens are in `tokenizer_config.json`
(`added_tokens_decoder`) or `added_tokens.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fim_model.errors import CheckpointError
from fim_model.loading.gguf_tokenizer import PRE_TOKENIZERS, added_token, byte_level_json
from fim_model.loading.headers import TOKENIZER_CONFIG, read_json

VOCABULARY, MERGES, ADDED = "vocab.json", "merges.txt", "added_tokens.json"

_WORDS = {
    "DreamTokenizer": "qwen2",
    "Qwen2Tokenizer": "qwen2",
    "Qwen2TokenizerFast": "qwen2",
    "GPT2Tokenizer": "gpt-2",
    "GPT2TokenizerFast": "gpt-2",
}
"""The pre-tokenizer of each `tokenizer_class`."""


def tokenizer_of_files(folder: Path) -> dict[str, Any]:
    """The content of the `tokenizer.json` that these files describe. Raises CheckpointError."""
    described = read_json(folder / TOKENIZER_CONFIG)
    kind = described.get("tokenizer_class")
    if not isinstance(kind, str) or kind not in _WORDS:
        raise CheckpointError(
            f"{folder / TOKENIZER_CONFIG}: how {kind!r} cuts text into words is not known; known "
            f"are {', '.join(_WORDS)}. Save the tokenizer as a tokenizer.json with its own library"
        )
    vocabulary = read_json(folder / VOCABULARY)
    added = _added(folder, described)
    clashing = [text for text, number in vocabulary.items() if added.get(number, text) != text]
    if clashing:
        raise CheckpointError(
            f"{folder / VOCABULARY}: the id of {clashing[0]!r} belongs to an added token as well; "
            "the files are not of one tokenizer"
        )
    vocabulary |= {text: token_id for token_id, text in added.items()}
    return byte_level_json(
        vocabulary,
        _merges(folder / MERGES),
        PRE_TOKENIZERS[_WORDS[kind]],
        [added_token(token_id, text) for token_id, text in sorted(added.items())],
    )


def _added(folder: Path, described: dict[str, Any]) -> dict[int, str]:
    """The control tokens by id."""
    found: dict[int, str] = {}
    if (folder / ADDED).is_file():
        found |= {token_id: text for text, token_id in read_json(folder / ADDED).items()}
    decoder = described.get("added_tokens_decoder")
    try:
        found |= {int(token_id): token["content"] for token_id, token in (decoder or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{folder / TOKENIZER_CONFIG}: added_tokens_decoder is not a table of ids and tokens"
        ) from None
    return found


def _merges(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file is missing; is the download complete?") from None
    except (OSError, UnicodeDecodeError) as broken:
        raise CheckpointError(f"{path}: cannot be read ({broken})") from None
    if lines[0].startswith("#version:"):
        del lines[0]
    merges = [line.split(" ") for line in (line.strip() for line in lines) if line]
    wrong = next((pair for pair in merges if len(pair) != 2), None)
    if wrong is not None:
        raise CheckpointError(f"{path}: {' '.join(wrong)!r} is not a merge of two pieces")
    return merges
