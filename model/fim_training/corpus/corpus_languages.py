"""The languages of the corpus, one row each: their files, and limits that hand-written text keeps.

They differ most in which lines count as data: an element of an array in every language, a key and
its value only in languages that also have statements.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

# It starts with a number, a quoted string or an opening bracket before one of them, and goes on to
# the next element.
_ELEMENT_OR_PAIR = re.compile(r"^\s*[\[({]*\s*(?:[-+]?[\d.]|[bru]{0,2}['\"]).*[,\[({\])}]\s*$")
# The same without a key: what configuration in JSON has few of.
_ELEMENT = re.compile(r"^\s*(?:- )?[\[({]*\s*(?:[-+]?[\d.]+|\"[^\"]*\")(?:\s*,.*)?[\])}]*\s*,?\s*$")


def _is_python(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes and the like: still Python
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Language:
    """share: the most of a corpus' bytes that it may take, unless asked otherwise.

    Sizes in bytes, line lengths in characters. data_line: what a line of a data table looks like;
    None where there are none. parses: None where nothing at hand checks the syntax.
    """

    name: str
    suffixes: tuple[str, ...]
    share: float
    max_bytes: int = 200_000
    max_line: int = 500
    max_mean_line: int = 100
    data_line: re.Pattern[str] | None = _ELEMENT_OR_PAIR
    parses: Callable[[str], bool] | None = None


PYTHON = Language("python", (".py",), 1.0, parses=_is_python)

LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        PYTHON,
        Language("javascript", (".js", ".mjs", ".cjs", ".jsx"), 0.25),
        Language("typescript", (".ts", ".tsx", ".mts", ".cts"), 0.25),
        Language("lua", (".lua",), 0.15),
        Language("c", (".h", ".c"), 0.15),
        Language("cpp", (".hpp", ".hh", ".hxx", ".cuh", ".cpp", ".cc", ".cxx"), 0.15),
        Language("go", (".go",), 0.15),
        Language("rust", (".rs",), 0.15),
        Language("java", (".java",), 0.15),
        Language("csharp", (".cs",), 0.15),
        Language("kotlin", (".kt", ".kts"), 0.15),
        Language("swift", (".swift",), 0.15),
        Language("ruby", (".rb",), 0.15),
        Language("php", (".php",), 0.15),
        Language("shell", (".sh", ".bash"), 0.1),
        Language(
            "markdown", (".md",), 0.1, max_line=2_000, max_mean_line=300, data_line=None
        ),
        Language("toml", (".toml",), 0.03, max_bytes=40_000, data_line=_ELEMENT, parses=_is_toml),
        Language("yaml", (".yaml", ".yml"), 0.03, max_bytes=40_000, data_line=_ELEMENT),
        # Most JSON is data; what a person edits is small.
        Language("json", (".json",), 0.02, max_bytes=10_000, data_line=_ELEMENT, parses=_is_json),
    )
}  # fmt: skip

_BY_SUFFIX = {suffix: language for language in LANGUAGES.values() for suffix in language.suffixes}


def language_of(path: str) -> Language | None:
    """The language of a file by the end of its name."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())


def parse_shares(text: str) -> dict[Language, float]:
    """Read `python,javascript=0.2`: languages, each with the most of the bytes it may take.

    Raises ValueError for a language that is not known and for a share that is none.
    """
    shares: dict[Language, float] = {}
    for part in filter(None, (entry.strip() for entry in text.split(","))):
        name, _, share = part.partition("=")
        if name not in LANGUAGES:
            raise ValueError(f"language {name!r} is not known; known are {', '.join(LANGUAGES)}")
        language = LANGUAGES[name]
        try:
            shares[language] = float(share) if share else language.share
        except ValueError:
            raise ValueError(f"the share of {name} must be a number, not {share!r}") from None
        if not 0 < shares[language] <= 1:
            raise ValueError(f"the share of {name} must be above 0 and at most 1, not {share}")
    if sum(shares.values()) < 1:
        raise ValueError(
            f"the shares add up to {sum(shares.values()):.2f}; give some language more, so that "
            "they reach 1 (python=1 takes whatever the others leave)"
        )
    return shares
