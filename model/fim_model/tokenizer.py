"""Turn code into token ids and back, byte for byte.

`CodeTokenizer` wraps a byte-level BPE file of Hugging Face `tokenizers`. Code is always encoded
as plain text: a user's file that spells `<|mask|>` gets the tokens of those characters, never the
special token. Special tokens are put into a prompt by id, through `CodeTokenizer.special`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers

# What each role is called in this project's own tokenizer, in the order of the ids. Another model
# family brings its own table.
SPECIAL_TOKEN_NAMES: Mapping[str, str] = {
    "pad": "<|pad|>",
    "mask": "<|mask|>",
    "eom": "<|eom|>",
    "eot": "<|eot|>",
    "prefix": "<|fim_prefix|>",
    "suffix": "<|fim_suffix|>",
    "middle": "<|fim_middle|>",
    "file": "<|file|>",
    "snippet": "<|snippet|>",
    "edit": "<|edit|>",
    "old": "<|old|>",
    "new": "<|new|>",
}


class TokenizerError(ValueError):
    """A tokenizer file that cannot be used; the message names the file and the way out."""


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of the tokens that code never holds, by role."""

    pad: int
    """Fills up a batch; never predicted."""
    mask: int
    """A position that is still to be decoded."""
    eom: int
    """End of the middle: the hole is filled."""
    eot: int
    """End of a text (a whole file)."""
    prefix: int
    """Opens the text before the hole."""
    suffix: int
    """Opens the text after the hole."""
    middle: int
    """Opens the hole."""
    file: int
    """Opens the name of the file."""
    snippet: int
    """Opens a piece of another file."""
    edit: int
    """Opens a recent edit."""
    old: int
    """Opens an edit's text before the change."""
    new: int
    """Opens an edit's text after the change."""

    @classmethod
    def from_names(
        cls, names: Mapping[str, str], id_of: Callable[[str], int | None]
    ) -> SpecialTokens:
        """Look up the ids by a family's table of role to token text.

        Raises KeyError, whose argument is the list of all missing tokens' texts.
        """
        ids = {role.name: id_of(names[role.name]) for role in fields(cls)}
        missing = [names[role] for role, token_id in ids.items() if token_id is None]
        if missing:
            raise KeyError(missing)
        return cls(**{role: token_id for role, token_id in ids.items() if token_id is not None})


class CodeTokenizer:
    """Encodes code as plain text and decodes ids; `special` holds the ids of the control tokens.

    Attributes:
        vocab_size: number of ids, special tokens included.
        special: ids of the special tokens by role.
        newline_ids: ids, ascending, of the tokens whose text holds a newline.
    """

    def __init__(
        self, tokenizer: Tokenizer, names: Mapping[str, str] = SPECIAL_TOKEN_NAMES
    ) -> None:
        """Take over a byte-level tokenizer. Raises KeyError where it lacks a special token."""
        # Without this, special tokens spelled out in a text would be recognised. The setting is
        # not part of the file, so it is made here.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.special = SpecialTokens.from_names(names, tokenizer.token_to_id)
        self._bytes = _bytes_by_id(tokenizer, self.vocab_size)
        self.newline_ids: tuple[int, ...] = tuple(
            token_id for token_id, piece in enumerate(self._bytes) if b"\n" in piece
        )

    @classmethod
    def from_file(
        cls, path: str | Path, names: Mapping[str, str] = SPECIAL_TOKEN_NAMES
    ) -> CodeTokenizer:
        """Read a `tokenizer.json`. Raises TokenizerError where it is missing or unfit."""
        file = Path(path)
        if not file.is_file():
            raise TokenizerError(f"no tokenizer at {file}; give the folder of a whole checkpoint")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception for every bad file
            raise TokenizerError(
                f"{file} is not a tokenizer file ({error}); fetch the checkpoint again"
            ) from error
        try:
            return cls(tokenizer, names)
        except KeyError as error:
            missing = ", ".join(error.args[0])
            raise TokenizerError(
                f"{file} lacks the special tokens {missing}; use the tokenizer that the "
                "checkpoint was trained with"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; never the id of a special token.

        Lone surrogates, which are no text and which UTF-8 cannot spell, become U+FFFD.
        """
        return self._tokenizer.encode(_well_formed(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` for many texts at once, on several threads."""
        whole = [_well_formed(text) for text in texts]
        return [
            one.ids for one in self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, without special tokens.

        A character whose bytes are not all there at the end is left out, so that the text of a
        growing list of ids only ever grows; bytes that are no UTF-8 elsewhere become U+FFFD.
        """
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self.decode_bytes(ids))

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of the ids; special tokens have none. IndexError for an unknown id."""
        return b"".join(self._bytes[token_id] for token_id in ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; empty for a special token."""
        return self._bytes[token_id]

    def token_text(self, token_id: int) -> str:
        """One token for a person to read: special tokens by name, part characters as U+FFFD."""
        piece = self._bytes[token_id]
        return piece.decode("utf-8", "replace") or self._tokenizer.id_to_token(token_id) or ""


def _well_formed(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _bytes_by_id(tokenizer: Tokenizer, size: int) -> list[bytes]:
    """Each id's bytes; b"" for ids that are special or unused."""
    special = {
        token_id
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    byte_of = _byte_level_alphabet()
    table = [b""] * size
    for token, token_id in tokenizer.get_vocab(with_added_tokens=True).items():
        if token_id not in special:
            table[token_id] = bytes(byte_of[character] for character in token)
    return table


def _byte_level_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, ascending, are the
    characters from U+0100 on (the GPT-2 table, which `tokenizers` uses).
    """
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    own = {chr(byte): byte for byte in range(256) if chr(byte) in alphabet}
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    return own | {chr(0x100 + place): byte for place, byte in enumerate(others)}
