"""Limits on the number of lines in a hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fim_model.prompt.tokenizer import CodeTokenizer


def first_lines(text: str, count: int) -> str:
    """The first `count` lines from the first non-blank one on, with the blank lines before it."""
    ink = text.lstrip()
    return text[: len(text) - len(ink)] + "\n".join(ink.split("\n")[:count])


def line_limit(
    tokenizer: CodeTokenizer, lines: int | None, typed: int = 0
) -> Callable[[Sequence[int]], bool]:
    """A predicate for a StopRule: whether a hole's ids complete `lines` lines (None: never).

    The first `typed` characters stand before the cursor and do not count.
    """
    if lines is None:
        return lambda ids: False
    newlines = frozenset(tokenizer.newline_ids)

    def done(ids: Sequence[int]) -> bool:
        return ids[-1] in newlines and tokenizer.decode(ids)[typed:].lstrip().count("\n") >= lines

    return done
