"""Token healing: the hole's first tokens must spell what was typed since the last token border.

A prompt that ends inside a word, or in white space that the tokenizer would merge with what
follows, contains tokens that the model never saw in training. So the prompt ends at the last
settled border, and decoding begins with tokens that spell the rest ("token healing" in guidance;
FIM-SE, arXiv 2405.17103, trains the same constraint).
"""

from __future__ import annotations

import string
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from fim_model.decoding.core import DecodingCore, ForwardKind, Steps
from fim_model.network.attention_mask import Attention
from fim_model.prompt.tokenizer import CodeTokenizer

PROBES = ("", *string.ascii_lowercase, "A", "_", "0", " ", "\n", "(", ")", '"', ".", ",", ":", "=")
"""What may follow a typed text: its first token depends on what follows."""


class Continuations:
    """Which tokens may come next where the text must begin with given bytes."""

    def __init__(self, tokenizer: CodeTokenizer) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _sorted(self) -> list[tuple[bytes, int]]:
        """Bytes and id of every token, by bytes; made when first needed, not while loading."""
        known = ((self._tokenizer.token_bytes(i), i) for i in range(self._tokenizer.vocab_size))
        return sorted((piece, i) for piece, i in known if piece)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token."""
        return self._tokenizer.token_bytes(token_id)

    def choices(self, typed: bytes) -> list[int]:
        """Ids of the tokens that begin with `typed`, and of those that `typed` begins with.

        Of the latter only those that the tokenizer produces for some continuation: the model has
        seen no others there.
        """
        first = bisect_left(self._sorted, (typed, -1))
        end = bisect_right(self._sorted, (typed + b"\xff" * 8, -1))
        covering = [i for piece, i in self._sorted[first:end] if piece.startswith(typed)]
        return covering + sorted(self._beginnings(typed).difference(covering))

    def _beginnings(self, typed: bytes) -> set[int]:
        try:
            text = typed.decode()
        except UnicodeDecodeError:  # a character was cut: any token that continues it fits
            return {i for piece, i in self._sorted if typed.startswith(piece)}
        firsts = {self._tokenizer.encode(text + probe)[0] for probe in PROBES if text + probe}
        return {i for i in firsts if typed.startswith(self._tokenizer.token_bytes(i))}


def restricted(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Logits `[..., V]` with all ids but these set to -inf."""
    allowed = torch.full_like(logits, -torch.inf)
    allowed[..., list(ids)] = logits[..., list(ids)]
    return allowed


def left_to_spell(typed: bytes, token: bytes) -> bytes:
    """What is left of `typed` after this token."""
    return typed[len(token) :]


def spell(core: DecodingCore, typed: bytes, continuations: Continuations) -> Steps:
    """Commit one causal token a forward until `typed` is spelled; yields a step for each."""
    while typed and core.finish is None:
        before = len(core.tokens)
        hidden = core.forward(torch.tensor(core.tokens[-1:]), Attention.CAUSAL)
        core.keep(1)
        logits = core.predictions(hidden).logits()
        core.commit_choice(restricted(logits, continuations.choices(typed)))
        typed = left_to_spell(typed, continuations.token_bytes(core.tokens[-1]))
        yield core.step(ForwardKind.CAUSAL, 1, before)
