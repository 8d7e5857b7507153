"""Where a hole has run into what stands behind it.

A model that misses the end of a middle writes the suffix once more, and goes on. The hole ends
where the suffix's first line of some substance begins: nothing behind that was missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fim_model.prompt.tokenizer import CodeTokenizer

LEAST_INK = 10
"""Characters other than white space up to the end of the line that tells a suffix: `else:` or a
bracket stands in many a middle."""

MAX_HEAD_CHARS = 400
"""A suffix with a longer beginning is not looked for."""

_WORD = re.compile(r"[^\W\d_]{2}")
_LINE_END = r"[^\S\n]*\n"


class SuffixHead:
    """The beginning of a suffix, up to the end of the line with which it has some substance."""

    def __init__(self, suffix: str) -> None:
        lines = _lines(suffix[: 2 * MAX_HEAD_CHARS])
        self._pattern = _pattern(lines) if lines else None
        self._ink = "".join("".join(line.split()) for line in lines)

    def start_in(self, text: str) -> int | None:
        """Where a hole's text comes to the suffix; None if it does not, or has not written the
        whole of the head with the end of its line."""
        found = self._pattern.search(text) if self._pattern else None
        return found.start() if found else None

    def cut(self, text: str) -> str:
        """The text up to there."""
        return text[: self.start_in(text)]

    def settled(self, text: str) -> str:
        """The part of a growing text that is not cut whatever follows."""
        if (start := self.start_in(text)) is not None:
            return text[:start]
        if not self._ink:
            return text
        places = [at for at, character in enumerate(text) if not character.isspace()]
        places = places[-len(self._ink) :]
        tail = "".join(text[at] for at in places)
        begun = (at for i, at in enumerate(places) if self._ink.startswith(tail[i:]))
        return text[: next(begun, len(text))].rstrip()


def _lines(suffix: str) -> list[str]:
    """The lines of the head, without white space at their ends; none where it has no substance."""
    head, ink = list[str](), 0
    for line in suffix.split("\n"):
        head.append(line.rstrip())
        ink += len("".join(line.split()))
        if ink >= LEAST_INK:
            long = sum(map(len, head)) > MAX_HEAD_CHARS
            return head if _WORD.search("".join(head)) and not long else []
    return []


def _pattern(head: Sequence[str]) -> re.Pattern[str]:
    """The lines of the head; white space at their ends and blank lines may differ."""
    first, *others = head
    written = [re.escape(line) for line in others if line]
    return re.compile(
        re.escape(first) + "".join(rf"(?:{_LINE_END})+{line}" for line in written) + _LINE_END
    )


def reaches_suffix(
    tokenizer: CodeTokenizer, suffix: str, typed: int = 0
) -> Callable[[Sequence[int]], bool]:
    """A predicate for a StopRule: whether a hole's ids have come to the suffix.

    The first `typed` characters stand before the cursor and do not count.
    """
    head, newlines = SuffixHead(suffix), frozenset(tokenizer.newline_ids)

    def reached(ids: Sequence[int]) -> bool:
        if ids[-1] not in newlines:
            return False
        return head.start_in(tokenizer.decode(ids)[typed:]) is not None

    return reached
