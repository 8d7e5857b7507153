"""Brackets and quotes without a partner, in text of any language that need not parse.

The scan knows strings, raw ones and regular expressions included, because a bracket in a string has
no partner, and no comments, because a line of prose has balanced brackets too. A quote that is not
closed is an unmatched quote; what follows it is read as code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

PAIRS = {"(": ")", "[": "]", "{": "}"}
ANGLES = {"<": ">"}
CLOSERS = frozenset(PAIRS.values())


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_CHARACTER_QUOTES = _set(
    "ada c cpp csharp cuda-cpp d elm fsharp go haskell java kotlin objective-c "
    "objective-cpp ocaml purescript rust scala swift systemverilog verilog vhdl zig"
)
"""Languages in which `'` holds one character, and may be a lifetime, a type variable or a prime."""

_NO_SINGLE_QUOTES = _set(
    "clojure commonlisp elisp emacs-lisp latex lisp markdown matlab octave plaintext "
    "racket restructuredtext scheme tex text vb"
)
"""Languages in which `'` opens no string: it is an apostrophe, a quoted form or a comment."""

LOOSE = _set(
    "bash bat dockerfile fish git-commit html latex makefile markdown plaintext "
    "restructuredtext sh shellscript tex text xml zsh"
)
"""Languages in which a closing bracket may stand alone, as in the `case` of a shell or in prose."""

_OPAQUE = (
    (
        _set("javascript javascriptreact svelte typescript typescriptreact vue"),
        r"(?:(?<=[(,=:\[!&|?{;])|(?<=[(,=:\[!&|?{;] )|(?<=return ))"
        r"/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/",
    ),
    (_set("go"), r"`[^`]*`"),
    (_set("rust"), r"(?<!\w)b?r(?P<hashes>#*)\"[\s\S]*?\"(?P=hashes)"),
    (_set("cpp cuda-cpp objective-cpp"), r"R\"(?P<end>[^()\\\s]{0,16})\([\s\S]*?\)(?P=end)\""),
    (_set("csharp"), r"\$?@\$?\"(?:[^\"]|\"\")*\""),
    (
        _set("bash fish pascal powershell sh shellscript sql toml vim viml yaml zsh"),
        r"'[^'\n]*'",
    ),
    (
        _set("bash clojure commonlisp elisp emacs-lisp lisp racket scheme sh shellscript zsh"),
        r"\\[^\n]",
    ),
)
"""What of a language holds no marks, unlike the strings that most languages have: regular
expressions, strings without escapes, escaped characters outside strings."""

_MARK = r"\"\"\"|'''|[\"'`()\[\]{}]|=>|->|<-|<=|>=|<<=?|[<>]"
_CHARACTER = re.compile(r"'(?:\\[^'\n]{1,10}|[^'\\\n])'")
_STRING_PREFIX = re.compile(r"(?<![^\W_])[bBfFrRuULtT]{1,2}8?\Z")
_WORD = re.compile(r"\w")


class Mark(NamedTuple):
    """A bracket or quote without a partner, and its index in the text."""

    at: int
    character: str


def unmatched(text: str, language: str = "", *, angles: bool = False) -> list[Mark]:
    """The brackets and quotes without a partner, in the order of the text.

    `language` is the editor's identifier. `angles` counts `<` and `>` as brackets too, but not
    those of arrows and comparisons that have two characters.
    """
    pairs = {**PAIRS, **ANGLES} if angles else PAIRS
    opened: list[Mark] = []
    alone: list[Mark] = []
    for mark in _marks(text, language):
        if mark.character in pairs:
            opened.append(mark)
        elif mark.character in pairs.values():
            if opened and pairs[opened[-1].character] == mark.character:
                opened.pop()
            else:
                alone.append(mark)
        elif mark.character not in "<>":
            alone.append(mark)
    return sorted(alone + opened)


def balance(text: str, language: str = "", *, angles: bool = False) -> Counter[str]:
    """How many brackets and quotes of each kind have no partner in a text."""
    return Counter(mark.character for mark in unmatched(text, language, angles=angles))


def plain_balance(text: str) -> Counter[str]:
    """`balance` for a text in which nobody knows what is a string: every bracket counts."""
    return balance(re.sub(r"[\"'`]", " ", text))


def _marks(text: str, language: str) -> Iterator[Mark]:
    """The brackets outside strings, and the quotes that open no string."""
    at, pattern = 0, _pattern(language)
    while (found := pattern.search(text, at)) is not None:
        at = found.end()
        mark = found["mark"]
        if mark is None:
            continue
        if mark[0] in "\"'`":
            end = _string_end(text, found.start(), mark, language)
            if end is not None:
                at = end
            elif not _is_part_of_text(text, found.start(), mark, language):
                yield Mark(found.start(), mark)
        elif len(mark) == 1:
            yield Mark(found.start(), mark)


@lru_cache(maxsize=128)
def _pattern(language: str) -> re.Pattern[str]:
    """Finds the next mark of a language, or what holds none."""
    opaque = [pattern for languages, pattern in _OPAQUE if language in languages]
    return re.compile("|".join([*opaque, f"(?P<mark>{_MARK})"]))


def _string_end(text: str, start: int, quote: str, language: str) -> int | None:
    """The index after the string that a quote opens; None if it opens none."""
    if quote == "'":
        if language in _CHARACTER_QUOTES:
            literal = _CHARACTER.match(text, start)
            return literal.end() if literal else None
        if _is_part_of_text(text, start, quote, language):
            return None
    many_lines = len(quote) == 3 or quote == "`"
    at = start + len(quote)
    while (end := text.find(quote, at)) >= 0:
        inside = text[start + len(quote) : end]
        if "\n" in inside and not many_lines:
            return None
        if _is_escaped(inside):
            at = end + 1
            continue
        return end + len(quote)
    return None


def _is_part_of_text(text: str, at: int, quote: str, language: str) -> bool:
    """Whether a single quote is none: an apostrophe, a lifetime, a separator of digits."""
    if quote != "'":
        return False
    if language in _CHARACTER_QUOTES or language in _NO_SINGLE_QUOTES:
        return True
    between_words = bool(_WORD.match(text[at - 1 : at]) and _WORD.match(text[at + 1 : at + 2]))
    return between_words and not _STRING_PREFIX.search(text[max(0, at - 3) : at])


def _is_escaped(inside: str) -> bool:
    """Whether a text ends with an odd number of backslashes."""
    return (len(inside) - len(inside.rstrip("\\"))) % 2 == 1
