"""The tokenizer in a GGUF file's metadata, as the content of a `tokenizer.json`.

Two kinds: byte-level BPE (`gpt2`), whose merges are in the file, and SentencePiece (`llama`), whose
merges follow from the scores of its pieces.
"""

from __future__ import annotations

from typing import Any

from fim_model.loading.gguf_metadata import Metadata
from fim_model.prompt.byte_alphabet import SPACE

_GPT2_WORDS: dict[str, Any] = {
    "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
}  # fmt: skip
_DECODER: dict[str, Any] = _GPT2_WORDS | {"add_prefix_space": True}
_BYTES: dict[str, Any] = _GPT2_WORDS | {"use_regex": False}
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_WORDS = _QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(words: str) -> dict[str, Any]:
    pattern = {"Regex": words}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


_DIGITS: dict[str, Any] = {"type": "Digits", "individual_digits": True}

_TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")

PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _GPT2_WORDS,
    "smollm": _sequence(_DIGITS, _GPT2_WORDS),
    "starcoder": _sequence(_DIGITS, _GPT2_WORDS),
    "qwen2": _sequence(_split(_QWEN2_WORDS), _BYTES),
    "llama-bpe": _sequence(_split(_LLAMA3_WORDS), _BYTES),
    "tekken": _sequence(_split(_TEKKEN_WORDS), _BYTES),
    "deepseek-coder": _sequence(*map(_split, _DEEPSEEK_CODER), _DIGITS, _BYTES),
}
"""`tokenizer.ggml.pre`: how text is cut before merges apply, as llama.cpp implements each name."""


_WHOLE_WORDS = ("llama-bpe", "tekken")
"""Pre-tokenizers of vocabularies in which a word that is a token is never split (tiktoken's)."""

_ADD_BEGIN = ("llama-bpe", "tekken")
"""Pre-tokenizers of models that begin every text with the begin-of-text token by default."""

SPECIAL_KINDS = (3, 4)
"""`tokenizer.ggml.token_type` of control and user-defined tokens."""

_KEY = "tokenizer.ggml."


def tokenizer_json(metadata: Metadata) -> dict[str, Any]:
    """The content of `tokenizer.json`. Raises CheckpointError for a kind that is not known."""
    kind = metadata.required(_KEY + "model")
    if kind not in ("gpt2", "llama"):
        raise metadata.fail(
            f"the tokenizer is {kind!r}; byte-level BPE ('gpt2') and SentencePiece ('llama') are "
            "read"
        )
    tokens = metadata.required(_KEY + "tokens")
    kinds = metadata.required(_KEY + "token_type")
    added = [
        added_token(token_id, text)
        for token_id, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in SPECIAL_KINDS
    ]
    parts = _byte_level(metadata, tokens) if kind == "gpt2" else _sentence_piece(metadata, tokens)
    begins = metadata.get(_KEY + "add_bos_token", parts.pop("begins"))
    begin = metadata.get(_KEY + "bos_token_id")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "post_processor": None if begin is None or not begins else _beginning(tokens[begin], begin),
        **parts,
    }


def added_token(token_id: int, text: str) -> dict[str, Any]:
    """A control token as `tokenizer.json` lists it."""
    return {
        "id": token_id, "content": text, "special": True, "single_word": False,
        "lstrip": False, "rstrip": False, "normalized": False,
    }  # fmt: skip


def byte_level_json(
    vocabulary: dict[str, int],
    merges: list[list[str]],
    words: dict[str, Any],
    added: list[dict[str, Any]],
) -> dict[str, Any]:
    """The content of a byte-level `tokenizer.json`; `words` cut the text before merges apply."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "post_processor": None,
        "normalizer": None,
        "pre_tokenizer": words,
        "decoder": _DECODER,
        "model": _bpe([], merges, vocab=vocabulary),
    }


def fim_markers(metadata: Metadata) -> tuple[str, str, str] | None:
    """The texts of the markers before prefix, suffix and middle, where the file names them."""
    tokens = metadata.required(_KEY + "tokens")
    named = [
        metadata.get(f"{_KEY}fim_{short}_token_id", metadata.get(f"{_KEY}{name}_token_id"))
        for short, name in (("pre", "prefix"), ("suf", "suffix"), ("mid", "middle"))
    ]
    if None in named or not all(0 <= token_id < len(tokens) for token_id in named):
        return None
    prefix, suffix, middle = (tokens[token_id] for token_id in named)
    return prefix, suffix, middle


def _byte_level(metadata: Metadata, tokens: list[str]) -> dict[str, Any]:
    rule = metadata.get(_KEY + "pre", "gpt-2")
    if rule not in PRE_TOKENIZERS:
        raise metadata.fail(
            f"the pre-tokenizer {rule!r} is not known; known are {', '.join(PRE_TOKENIZERS)}"
        )
    merges = [merge.split(" ") for merge in metadata.required(_KEY + "merges")]
    return {
        "begins": rule in _ADD_BEGIN,
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[rule],
        "decoder": _DECODER,
        "model": _bpe(tokens, merges, ignore_merges=rule in _WHOLE_WORDS),
    }


def _sentence_piece(metadata: Metadata, tokens: list[str]) -> dict[str, Any]:
    scores = metadata.required(_KEY + "scores")
    unknown = metadata.get(_KEY + "unknown_token_id", 0)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [spaces]
    if metadata.get(_KEY + "add_space_prefix", True):
        steps.insert(0, {"type": "Prepend", "prepend": SPACE})
    merges = _merges_of_scores(tokens, scores)
    return {
        "begins": True,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": None,
        "model": _bpe(tokens, merges, unk_token=tokens[unknown], fuse_unk=True, byte_fallback=True),
    }


def _merges_of_scores(tokens: list[str], scores: list[float]) -> list[list[str]]:
    """Merges in the order in which SentencePiece prefers them: by the score of what they make."""
    known = {text: token_id for token_id, text in enumerate(tokens)}
    ranked = []
    for text, token_id in known.items():
        halves = ((text[:at], text[at:]) for at in range(1, len(text)))
        pairs = [(known[a], known[b], a, b) for a, b in halves if a in known and b in known]
        ranked += [(-scores[token_id], *pair) for pair in sorted(pairs)]
    # Of equal scores the order of the vocabulary counts; sorting is stable.
    return [[a, b] for _, _, _, a, b in sorted(ranked, key=lambda entry: entry[0])]


def _bpe(tokens: list[str], merges: list[list[str]], **changes: Any) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {text: token_id for token_id, text in enumerate(tokens)},
        "merges": merges,
    } | changes


def _beginning(text: str, token_id: int) -> dict[str, Any]:
    """A post-processor that puts a token before every text."""
    begin = {"SpecialToken": {"id": text, "type_id": 0}}
    sequence = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [begin, sequence[0]],
        "pair": [begin, *sequence],
        "special_tokens": {text: {"id": text, "ids": [token_id], "tokens": [text]}},
    }
