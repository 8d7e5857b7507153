"""Where a hole has run into what stands behind it.

A model that misses the end of a middle writes the suffix once more, and goes on. The hole ends
where the suffix's first line of some substance begins: nothing behind that was missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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
        self._pattern = _pattern(suffix[: 2 * MAX_HEAD_CHARS])

    def start_in(self, text: str) -> int | None:
        """Where a hole's text comes to the suffix; None if it does not, or has not written the
        whole of the head with the end of its line."""
        found = self._pattern.search(text) if self._pattern else None
        return found.start() if found else None

    def cut(self, text: str) -> str:
        """The text up to there."""
        return text[: self.start_in(text)]


def _pattern(suffix: str) -> re.Pattern[str] | None:
    """The lines of the head; white space at their ends and blank lines may differ."""
    head, ink = list[str](), 0
    lines = suffix.split("\n")
    for line in lines:
        head.append(line.rstrip())
        ink += len("".join(line.split()))
        if ink >= LEAST_INK:
            break
    else:
        return None
    if not _WORD.search("".join(head)) or sum(map(len, head)) > MAX_HEAD_CHARS:
        return None
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
