"""Tokens of lines of code: patterns, sets of tokens and how similar two sets are."""

from __future__ import annotations

import re
from collections.abc import Iterable

TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|[^\w\s]")
NAME = re.compile(r"[^\W\d]\w*")
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
