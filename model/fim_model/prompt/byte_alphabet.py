"""Byte alphabets of tokenizer files, and a tokenizer that round-trips code exactly.

Two spellings cover the families here: byte-level (each byte is a printable character: GPT-2, Qwen,
DeepSeek, Tekken) and SentencePiece's (a space is `▁`, a byte without a token is `<0x0A>`: Llama,
Mistral). Their files also normalise text, put a space before it, and recognise control tokens that
it spells out; code must come back byte for byte, so all of that is taken out before use.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers

SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Spelling(Enum):
    BYTE_LEVEL = "byte-level"
    SENTENCE_PIECE = "SentencePiece"


class Opening(Enum):
    """Where the tokenizer's own rules put a space before a text, when control tokens cut it."""

    NEVER = "never"
    FIRST = "at the start of the text"
    EACH = "after every control token too"


def opening_space(tokenizer: Tokenizer) -> Opening:
    """What the file of a SentencePiece tokenizer says about the space before a text."""
    raw = json.loads(tokenizer.to_str())
    normalizer, words = raw["normalizer"] or {}, raw["pre_tokenizer"] or {}
    steps = [normalizer, *normalizer.get("normalizers", ())]
    if any(step.get("type") == "Prepend" for step in steps):
        return Opening.EACH
    scheme = words.get("prepend_scheme", "never") if words.get("type") == "Metaspace" else "never"
    return {"always": Opening.EACH, "first": Opening.FIRST}.get(scheme, Opening.NEVER)


def exact(tokenizer: Tokenizer) -> tuple[Tokenizer, Spelling]:
    """A copy of the tokenizer that neither changes text nor recognises control tokens in it.

    Tokens that were added to the vocabulary are never found in a text, white space excepted.
    Raises ValueError for a tokenizer of another kind, from which text would not come back exactly.
    """
    raw = json.loads(tokenizer.to_str())
    for token in raw["added_tokens"]:
        token["special"] = not token["content"].isspace()
    raw["truncation"] = raw["padding"] = raw["post_processor"] = None
    if _mentions(raw["pre_tokenizer"], "ByteLevel"):
        spelling = Spelling.BYTE_LEVEL
        raw["normalizer"] = None
        _set_everywhere(raw["pre_tokenizer"], "add_prefix_space", False)
    elif raw["model"].get("byte_fallback"):
        spelling = Spelling.SENTENCE_PIECE
        raw["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        raw["pre_tokenizer"] = None
    else:
        raise ValueError("it is neither byte-level nor has it byte fallback")
    made = Tokenizer.from_str(json.dumps(raw))
    # Not part of the file, so it is set here: special tokens spelled out in a text are text.
    made.encode_special_tokens = True
    if spelling is Spelling.SENTENCE_PIECE:
        missing = [byte for byte in range(256) if made.token_to_id(f"<0x{byte:02X}>") is None]
        if missing:
            raise ValueError(f"it has no token for the byte <0x{missing[0]:02X}>")
    return made, spelling


def bytes_by_id(tokenizer: Tokenizer, spelling: Spelling, size: int) -> list[bytes]:
    """Each id's bytes, `size` of them; b"" for ids that are special or unused."""
    added = tokenizer.get_added_tokens_decoder()
    special: set[int | None] = {token_id for token_id, token in added.items() if token.special}
    special |= {tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")}
    byte_of = _byte_level_alphabet()
    table = [b""] * size
    for token, token_id in tokenizer.get_vocab(with_added_tokens=True).items():
        if token_id in special:
            continue
        if token_id in added:
            table[token_id] = token.encode()
        elif spelling is Spelling.BYTE_LEVEL:
            table[token_id] = bytes(byte_of[character] for character in token)
        elif match := _BYTE.fullmatch(token):
            table[token_id] = bytes([int(match[1], 16)])
        else:
            table[token_id] = token.replace(SPACE, " ").encode()
    return table


def _mentions(part: Any, kind: str) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("type") == kind or any(
        _mentions(step, kind) for step in part.get("pretokenizers", ())
    )


def _set_everywhere(part: dict[str, Any], name: str, value: Any) -> None:
    for step in (part, *part.get("pretokenizers", ())):
        if name in step:
            step[name] = value


def _byte_level_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, ascending, are the
    characters from U+0100 on (the GPT-2 table, which `tokenizers` uses).
    """
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    own = {chr(byte): byte for byte in range(256) if chr(byte) in alphabet}
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    return own | {chr(0x100 + place): byte for place, byte in enumerate(others)}
