"""Token healing by a server that can hold an answer to a regular expression, as vLLM can.

A joined layout has no marker between prefix and middle, so a prompt must not end inside a word
(`fim_model/decoding/healing.py`). Without the tokenizer the border is found by white space: at
the one that the engine finds, or before it.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST = 64
"""Most characters that the server has to spell; more are left in the prompt."""

_TAIL = re.compile(r"(?:\s+\S*|\S+)\Z")
_SPECIAL = re.compile(r"[\\.^$*+?()\[\]{}|/]")


def split(prefix: str) -> tuple[str, str]:
    """The prefix up to the white space before its last word, and the rest ("" if it is long)."""
    tail = _TAIL.search(prefix[-2 * LONGEST :])
    typed = tail[0] if tail and len(tail[0]) <= LONGEST else ""
    return prefix[: len(prefix) - len(typed)], typed


def constraint(typed: str, *, one_line: bool) -> dict[str, Any]:
    """The fields of a request whose answer must begin with `typed`, in vLLM's terms.

    one_line: the answer ends with the line. A stop text would do, but `typed` may have line ends.
    """
    rest = r"[^\n]*(\n[ \t\n]*)?" if one_line else r"(.|\n)*"
    spelled = _SPECIAL.sub(lambda special: f"\\{special[0]}", typed)
    return {"structured_outputs": {"regex": spelled + rest}}
