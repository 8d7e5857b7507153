"""The part of an answer that stays in the cursor's scope, judged by indentation alone.

Works for every conventionally indented language, on text that need not parse.
"""

from __future__ import annotations

_TAB = 4
_OPENERS = (":", "{", "(", "[", "=>", "->")
_CLOSERS = (")", "]", "}")
_CONTINUES = ("else", "elif", "except", "finally", "catch", "case", "end")


def within_scope(text: str, line_before: str) -> str:
    """The part of `text`, which continues `line_before`, that belongs to the cursor's scope.

    After a line that opens a block: the block, with the lines that close or continue it. Otherwise:
    the lines indented at least as far as the cursor's own, with a bracket that closes them.
    """
    lines = text.split("\n")
    first = line_before + lines[0]
    base = _indentation(first if first.strip() else line_before)
    opened = first.rstrip().endswith(_OPENERS)
    for number, line in enumerate(lines[1:], 1):
        if not line.strip():
            continue
        depth = _indentation(line)
        if opened and depth == base:
            if not _closes_or_continues(line):
                return "\n".join(lines[:number])
            # `)` or `}` ends the statement; `} else {` and `):` continue it.
            opened = line.rstrip().endswith(_OPENERS)
            if not opened:
                return "\n".join(lines[: number + 1])
        elif depth < base:
            # The bracket that closes the scope belongs to it, unless it is there already.
            return "\n".join(lines[: number + line.strip().startswith(_CLOSERS)])
    return text


def _closes_or_continues(line: str) -> bool:
    code = line.strip()
    word = code.split("(")[0].split(" ")[0].rstrip(":{")
    return code.startswith(_CLOSERS) or word in _CONTINUES


def _indentation(line: str) -> int:
    expanded = line.expandtabs(_TAB)
    return len(expanded) - len(expanded.lstrip(" "))
