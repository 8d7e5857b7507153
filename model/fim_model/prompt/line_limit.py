"""A hole that may have so many lines and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fim_model.prompt.tokenizer import CodeTokenizer


def first_lines(text: str, count: int) -> str:
    """The first `count` lines from the first one with ink on, with the blank ones before them."""
    ink = text.lstrip()
    return text[: len(text) - len(ink)] + "\n".join(ink.split("\n")[:count])


def line_limit(
    tokenizer: CodeTokenizer, lines: int | None, typed: int = 0
) -> Callable[[Sequence[int]], bool]:
    """Whether a hole's ids hold `lines` lines already (None: never), for a StopRule.

    The first `typed` characters stand before the cursor and do not count.
    """
    if lines is None:
        return lambda ids: False
    newlines = frozenset(tokenizer.newline_ids)

    def done(ids: Sequence[int]) -> bool:
        return ids[-1] in newlines and tokenizer.decode(ids)[typed:].lstrip().count("\n") >= lines

    return done
