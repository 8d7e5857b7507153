"""Turn code into token ids and back, byte for byte.

`CodeTokenizer` wraps a `tokenizer.json` of Hugging Face `tokenizers`, byte-level or SentencePiece.
Code is always encoded as plain text: a user's file that spells `<|mask|>` gets the tokens of those
characters, never the special token. Special tokens are put into a prompt by id: this project's own
through `CodeTokenizer.special`, those of any family through `fim_model.prompt.fim_prompt`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from fim_model.errors import CheckpointError
from fim_model.prompt.byte_alphabet import (
    SPACE,
    Opening,
    Spelling,
    bytes_by_id,
    exact,
    opening_space,
)

# The token of each role in this project's own tokenizer, in the order of the ids.
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


LONGEST_UNSETTLED = 48
"""In characters; a longer word is taken as settled."""

BORDER_PROBES = ("e", "l", "\n")
"""Continuations that move a border before the last word, besides those that extend that word:
GPT-2's words split `'r` but not `'re` and `'ll`; Qwen's join white space with a later newline."""


class TokenizerError(CheckpointError):
    """An unusable tokenizer file; the message names the file and what to do."""


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of special tokens, by role; code never contains them."""

    pad: int
    """Fills up a batch; never predicted."""
    mask: int
    """A position to be decoded."""
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
    """Encodes code as plain text and decodes ids.

    Attributes:
        vocab_size: number of ids, special tokens included.
        fim_markers: the texts of the markers before prefix, suffix and middle, where the file names
            them itself (GGUF).
        begins: ids that the tokenizer's own rules put before every text, such as Llama's `<s>`.
        newline_ids: ids, ascending, of the tokens whose text holds a newline.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        names: Mapping[str, str] | None = SPECIAL_TOKEN_NAMES,
        *,
        ids: int = 0,
        fim_markers: tuple[str, str, str] | None = None,
    ) -> None:
        """Wrap a copy of a tokenizer. `names` is None for another family, without our roles.

        `ids` is the number of ids that a model may give, where it has more than its tokenizer.
        Raises KeyError where the tokenizer lacks a special token, ValueError where text would not
        come back from it exactly.
        """
        self._special: SpecialTokens | None = None
        if names is not None:
            self._special = SpecialTokens.from_names(names, tokenizer.token_to_id)
        self.fim_markers = fim_markers
        self.begins = _ids_before_a_text(tokenizer)
        self._opening = opening_space(tokenizer)
        self._tokenizer, self.spelling = exact(tokenizer)
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self._bytes = bytes_by_id(self._tokenizer, self.spelling, max(ids, self.vocab_size))
        self.newline_ids: tuple[int, ...] = tuple(
            token_id for token_id, piece in enumerate(self._bytes) if b"\n" in piece
        )
        self._space_ids = [self.token_id(f"<0x{byte:02X}>") or 0 for byte in SPACE.encode()]

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        names: Mapping[str, str] | None = SPECIAL_TOKEN_NAMES,
        *,
        ids: int = 0,
    ) -> CodeTokenizer:
        """Read a `tokenizer.json`. Raises TokenizerError where it is missing or unusable."""
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
            return cls(tokenizer, names, ids=ids)
        except KeyError as error:
            missing = ", ".join(error.args[0])
            raise TokenizerError(
                f"{file} lacks the special tokens {missing}; use the tokenizer that the "
                "checkpoint was trained with"
            ) from error
        except ValueError as unfit:
            raise TokenizerError(
                f"{file} cannot be used for code: {unfit}, so text would not come back from it "
                "exactly"
            ) from unfit

    @property
    def special(self) -> SpecialTokens:
        """This project's own roles; LookupError for a tokenizer of another family."""
        if self._special is None:
            raise LookupError("a tokenizer of another family has no roles of this project")
        return self._special

    @property
    def has_roles(self) -> bool:
        """Whether it is a tokenizer of this project, with `special`."""
        return self._special is not None

    def token_id(self, name: str) -> int | None:
        """The id of a token by its text, special or not."""
        token_id: int | None = self._tokenizer.token_to_id(name)
        return token_id

    def token_name(self, token_id: int) -> str | None:
        """A token as the tokenizer's file spells it."""
        name: str | None = self._tokenizer.id_to_token(token_id)
        return name

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; never the id of a special token.

        Lone surrogates, which are no text and which UTF-8 cannot spell, become U+FFFD.
        """
        text = well_formed(text)
        if self.spelling is Spelling.BYTE_LEVEL or SPACE not in text:
            return self._plain(text)
        # SentencePiece writes a space as this character, so the character itself goes by bytes.
        first, *others = text.split(SPACE)
        ids = self._plain(first)
        for other in others:
            ids += [*self._space_ids, *self._plain(other)]
        return ids

    def encode_opening(self, text: str) -> list[int]:
        """`encode` for the start of a text, where SentencePiece models expect a space."""
        opened = " " + text if self.spelling is Spelling.SENTENCE_PIECE else text
        return self.encode(opened)

    def encode_marked(self, text: str, hidden: str) -> list[int]:
        """Token ids of a text in which special tokens are spelled out, as chat templates write it.

        `hidden` is a character that is left out of the text: one put into the spelling of a special
        token makes it plain text.
        """
        ids: list[int] = []
        at = 0
        for match in (*self._marks.finditer(text), None):
            plain = text[at : match.start() if match else len(text)].replace(hidden, "")
            first = self._opening is Opening.FIRST and not at
            if plain and (first or self._opening is Opening.EACH):
                ids += self.encode_opening(plain)
            elif plain:
                ids += self.encode(plain)
            if match:
                ids.append(self.token_id(match[0].strip()) or 0)
                at = match.end()
        return ids

    def hide_marks(self, text: str, hidden: str) -> str:
        """The text with `hidden` inside every special token that it spells."""
        return self._marks.sub(lambda match: _with_inside(match[0], hidden), text)

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        """The special tokens, with the white space that they swallow by the tokenizer's rules."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        marks = sorted(
            (token for token in added if token.special and token.content.strip() == token.content),
            key=lambda token: -len(token.content),
        )
        space = r"\s*"
        spelled = (
            space * token.lstrip + re.escape(token.content) + space * token.rstrip
            for token in marks
        )
        return re.compile("|".join(spelled) or r"(?!)")

    def unsettled(self, text: str) -> int:
        """Number of characters at the end of a text whose tokens may change when it is continued.

        Byte-level tokenizers split text into words first, so that is the last word or the white
        space at the end, and what a continuation may join with it. 0 for SentencePiece, and where
        it is longer than `LONGEST_UNSETTLED`.
        """
        if self.spelling is not Spelling.BYTE_LEVEL or not text:
            return 0
        tail = well_formed(text[-2 * LONGEST_UNSETTLED :])
        starts = self._word_starts(tail)
        certain = starts.intersection(*(self._word_starts(tail + p) for p in BORDER_PROBES))
        # White space at the end of a text is one word, before another word it may be two: a border
        # holds only where the text before it, taken alone, has the same words.
        border = next(
            at
            for at in sorted(certain, reverse=True)
            if at < len(tail) and self._word_starts(tail[:at]) == {s for s in starts if s < at}
        )
        count = len(tail) - border
        return count if count <= LONGEST_UNSETTLED else 0

    def _word_starts(self, text: str) -> set[int]:
        """Offsets at which the pre-tokenizer begins a word."""
        return {first for _, (first, _) in self._tokenizer.pre_tokenizer.pre_tokenize_str(text)}

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` for many texts at once, with a byte-level tokenizer on several threads."""
        if self.spelling is not Spelling.BYTE_LEVEL:
            return [self.encode(text) for text in texts]
        whole = [well_formed(text) for text in texts]
        return [
            encoding.ids
            for encoding in self._tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, without special tokens.

        An incomplete character at the end is left out, so that the text of a growing list of ids
        only grows; invalid UTF-8 elsewhere becomes U+FFFD.
        """
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self.decode_bytes(ids))

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of the ids; special tokens have none. IndexError for an unknown id."""
        return b"".join(self._bytes[token_id] for token_id in ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; empty for a special token."""
        return self._bytes[token_id]

    def token_text(self, token_id: int) -> str:
        """One token for display: special tokens by name, partial characters as U+FFFD."""
        piece = self._bytes[token_id]
        return piece.decode("utf-8", "replace") or self._tokenizer.id_to_token(token_id) or ""

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _ids_before_a_text(tokenizer: Tokenizer) -> tuple[int, ...]:
    plain: list[int] = tokenizer.encode("a", add_special_tokens=False).ids
    whole: list[int] = tokenizer.encode("a").ids
    return tuple(whole[: whole.index(plain[0])]) if plain and plain[0] in whole else ()


def _with_inside(mark: str, hidden: str) -> str:
    at = len(mark) - len(mark.lstrip()) + 1
    return mark[:at] + hidden + mark[at:]


def well_formed(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which UTF-8 cannot spell."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
