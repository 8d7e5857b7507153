"""Edit sessions about mirrored lines, out of real code: two stretches that are alike but for some
names have a line each, and a person has just written the first of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from fim_training.evaluation.baselines import indentation
from fim_training.examples.grammars import PYTHON
from fim_training.examples.synthetic_edits import NAME, REACH

_TOKEN = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|\w+|\s+|.")
_LEAST_NAMES = 2


def draw_mirror(lines: Sequence[str], at: int) -> int | None:
    """The line that mirrors line `at`; None if there is none, or several.

    The lines above and below are alike, and what differs in them makes the one line of the other.
    Neither stretch is a list of lines that are alike.
    """
    if not 0 < at < len(lines) - 1 or _is_listing(lines, at) or not _is_statement(lines[at]):
        return None
    found = [
        other
        for other in range(max(at - REACH, 1), min(at + REACH, len(lines) - 1))
        if abs(other - at) > 2
        and not _is_listing(lines, other)
        and _correspond(lines[at - 1 : at + 2], lines[other - 1 : other + 2])
    ]
    return found[0] if len(found) == 1 else None


def _correspond(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the middle one of three lines follows from the lines around it, each name of the ones
    standing for one of the others."""
    stands_for: dict[str, str] = {}
    for at in (0, 2):
        if not _is_alike(
            some[at], others[at], stands_for, indentation(others[1]) - indentation(some[1])
        ):
            return False
    names = {token for token in stands_for if NAME.fullmatch(token)}
    telling = names - PYTHON.keywords
    if len(telling) < _LEAST_NAMES or not any(stands_for[name] == name for name in telling):
        return False
    made = "".join(stands_for.get(token, token) for token in _TOKEN.findall(some[1].strip()))
    return made == others[1].strip()


def _is_alike(one: str, other: str, stands_for: dict[str, str], deeper: int) -> bool:
    a, b = _TOKEN.findall(one.strip()), _TOKEN.findall(other.strip())
    if len(a) != len(b) or (one.strip() and indentation(other) - indentation(one) != deeper):
        return False
    for x, y in zip(a, b, strict=True):
        is_fixed = x in PYTHON.keywords or y in PYTHON.keywords or not _is_word(x, y)
        if (x != y and is_fixed) or stands_for.setdefault(x, y) != y:
            return False
    return True


def _is_statement(line: str) -> bool:
    """Whether a line does something by itself: no head of a block, no prose, no bracket."""
    try:
        [statement] = ast.parse(line.strip()).body
    except (SyntaxError, ValueError):
        return False
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call | ast.Await)
    return not isinstance(statement, ast.Import | ast.ImportFrom)


def _is_word(one: str, other: str) -> bool:
    both_names = NAME.fullmatch(one) and NAME.fullmatch(other)
    return bool(both_names) or (one[0] in "\"'" and other[0] in "\"'")


def _is_listing(lines: Sequence[str], at: int) -> bool:
    shape = _shape(lines[at])
    return any(_shape(lines[other]) == shape for other in (at - 1, at + 1))


def _shape(line: str) -> list[str]:
    return ["x" if one[0].isalnum() or one[0] in "_\"'" else one for one in _TOKEN.findall(line)]
