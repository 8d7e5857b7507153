"""Takes from an answer's start what stands left of the cursor already.

Models repeat the line that they are asked to continue, its indentation, or the word at the cursor.
Pure functions of text with `\\n` line ends; `before` is the text left of the cursor.
"""

from __future__ import annotations

import re

from fim_server.completion.trim import is_word
from fim_server.syntax.brackets import unmatched

MAX_LINES_REPEATED = 8
MAX_LINE_CHARS = 1000
"""Characters left of the cursor in which the end of a line is looked for."""
MIN_NAME_CHARS = 3
"""A shorter start of a name may be repeated in good code: `is` in `isisland`."""

_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*(?:(?:\.|::|->|\?\.)\w+)*(?:\.|::|->|\?\.)?\Z")
_QUOTES = re.compile(r"(?:\"\"\"|'''|[\"'`])\Z")
_OPERATORS = re.compile(r"(?<![=!<>:])(?:[-+*/%&|^:]?=|=>|->|[,:])\Z")
_PARAMETERS = re.compile(r"\b(?:def|fn|func|fun|function|sub|proc)\s+[\w.$:]+\s*\(\Z")
_IN_COMMENT = re.compile(r"(?:\A|\s)(?:#|//|--|/\*|\*)")
"""In prose a word may be meant twice."""
_COMMENTS = ("#", "//", "///", "//!", "--", "%", ";", ";;", "*", "/*", "/**")
_TWICE = frozenset(["long", "not"])
"""Words that good code repeats."""
_OPENERS = (":", "{", "(", "[", "=>", "->", "then", "do", "begin", "of", "where")


def without_restated(text: str, before: str, language: str = "") -> str:
    """The answer without a start that repeats the text left of the cursor."""
    head, _, line = before.rpartition("\n")
    text = _without_lines(text, head, line)
    if not line.strip():
        return _without_indentation(text, head, line)
    return _without_line(text, line, language)


def _without_lines(text: str, head: str, line: str) -> str:
    """The text without first lines that repeat those before the cursor's.

    One line alone counts if it opens the cursor's block, or the cursor's own text follows it.
    """
    lines = text.lstrip("\n").split("\n")
    above = head.split("\n")[-MAX_LINES_REPEATED - 1 :]
    while above and not above[-1].strip():
        above.pop()
    for count in range(min(len(above), len(lines) - 1, MAX_LINES_REPEATED), 0, -1):
        repeated = [row.strip() for row in above[-count:]]
        if [row.strip() for row in lines[:count]] != repeated:
            continue
        if not any(map(is_word, "".join(repeated))):
            continue
        again = line.strip() and lines[count].lstrip().startswith(line.strip())
        opens = not line.strip() and (count > 1 or repeated[-1].endswith(_OPENERS))
        if again or opens:
            return "\n".join(lines[count:])
    return text


def _without_indentation(text: str, head: str, line: str) -> str:
    """The text for a cursor in the indentation `line`, without the indentation given again.

    The text's first line may be indented from the cursor, or from the start of the line. It is the
    latter where the former would be deeper than the line above, which opens no block.
    """
    if not line:
        return text
    code = text.lstrip(" \t")
    given = text[: len(text) - len(code)]
    if not given or not code.strip() or code.startswith("\n"):
        return text
    above = next((row for row in reversed(head.split("\n")) if row.strip()), "")
    deepest = _width(above[: len(above) - len(above.lstrip())])
    if above.rstrip().endswith(_OPENERS):
        # A block may be indented from here, unless the cursor is in the block already.
        if _width(line) <= deepest and not (given.startswith(line) and _width(given) > deepest):
            return text
    elif _width(line + given) <= deepest:
        return text
    return given[len(line) :] + code if given.startswith(line) else code


def _without_line(text: str, line: str, language: str) -> str:
    """The text for a cursor after `line`, which is not blank, without what repeats its end."""
    stripped = line[-MAX_LINE_CHARS:].rstrip()
    spaced = line[-1:].isspace()
    code = text.lstrip(" \t")
    if _restates(code, line):
        code = code[len(line.strip()) :]
        return code.lstrip(" \t") if spaced else code
    line = line[-MAX_LINE_CHARS:]
    gap = spaced or len(code) < len(text)
    if not spaced and code == text and (name := _name_again(line, text)):
        return text[len(name) :]
    if quotes := _quotes_again(line, text, language):
        return text[len(quotes) :]
    if _PARAMETERS.search(line) and text.startswith("("):
        return text[1:]
    operator = _OPERATORS.search(stripped)
    if gap and operator is not None and code.startswith(operator.group()):
        after = code[len(operator.group()) :]
        if after[:1].isspace() or is_word(after[:1]):
            return after.lstrip(" \t") if spaced else after
    if spaced and code != text and not code.startswith(_COMMENTS):
        return code
    return text


def _restates(code: str, line: str) -> bool:
    """Whether the text begins with all of the line's code."""
    core = line.strip()
    if not code.startswith(core):
        return False
    rest, spaced = code[len(core) :], line != line.rstrip()
    if core in _COMMENTS:
        return rest.startswith(" ") and spaced
    if spaced and is_word(core[-1]) and is_word(rest[:1]):
        return False
    words = re.findall(r"[^\W\d]\w*", core)
    if words == [core]:
        return spaced and core not in _TWICE
    return bool(words) and (len(words) > 1 or any(sign in core for sign in "=(:"))


def _name_again(line: str, text: str) -> str:
    """The name, or start of a name, at the cursor if the text begins with it again; else ""."""
    found = None if _IN_COMMENT.search(line) else _NAME.search(line)
    if found is None:
        return ""
    name = found.group()
    complete = not is_word(name[-1])
    for again in (name,) if complete else (name, re.split(r"\W+", name)[-1]):
        follows = text[len(again) : len(again) + 1]
        if text.startswith(again) and len(again) >= MIN_NAME_CHARS - complete:
            return again if not complete or is_word(follows) else ""
    return ""


def _quotes_again(line: str, text: str, language: str) -> str:
    """The quotes that open a string at the cursor if the text opens it again; else ""."""
    found = _QUOTES.search(line)
    quotes = found.group() if found else ""
    if not quotes or not text.startswith(quotes) or text[len(quotes) :].find(quotes) < 1:
        return ""
    alone = unmatched(line, language)
    opens = bool(alone) and alone[-1].at == len(line) - len(quotes)
    return quotes if opens else ""


def _width(indentation: str) -> int:
    return len(indentation.expandtabs(4))
