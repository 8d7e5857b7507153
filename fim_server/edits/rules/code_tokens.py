"""Tokens of lines of code: patterns, sets of tokens and how similar two sets are."""

from __future__ import annotations

import re
from collections.abc import Iterable

TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|[^\w\s]")
NAME = re.compile(r"[^\W\d]\w*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYWORDS = _words(
    "and as assert async await bool break case catch class const continue def default defer del do "
    "elif else elseif end enum except export extends final finally float fn for from func function "
    "global go if impl implements import in instanceof int interface is lambda let local match mod "
    "mut new nil None none null not number or package pass private protected pub public raise "
    "range repeat return self Self static str string struct super switch then this throw trait "
    "true True false False try type typeof undefined until use var void where while with yield"
)
"""Words of the languages that no other name takes the place of."""

CALL = re.compile(r"([^\W\d]\w*)\s*\(")


def tokens(lines: Iterable[str]) -> frozenset[str]:
    """The names, literals and punctuation of some lines."""
    return frozenset(token for line in lines for token in TOKEN.findall(line))


def names(lines: Iterable[str]) -> frozenset[str]:
    """The names in some lines, keywords and words of strings and comments included."""
    return frozenset(name for line in lines for name in NAME.findall(line))


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """The Jaccard index of two sets: shared tokens over all tokens, 0 to 1."""
    return len(first & second) / len(first | second) if first or second else 0.0
