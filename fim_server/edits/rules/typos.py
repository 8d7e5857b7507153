"""Names that were just written, stand nowhere else, and are one slip of the fingers from a name
that does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile

from fim_server.edits.history import Hunk
from fim_server.edits.rules.clues import NAME
from fim_server.edits.rules.drafts import DOUBT, LineEdit, Suggestion
from fim_server.edits.rules.page import Page
from fim_server.syntax.occurrences import Occurrence, Role

_WEIGHT = 2.4
_SHORTEST = 3
_MOST = 3


def misspelt(page: Page, hunk: Hunk) -> Iterator[Suggestion]:
    """Repairs in the lines of the latest hunk, once the cursor has left them."""
    lines = range(hunk.first, hunk.end)
    if page.cursor in lines:
        return
    elsewhere = Counter(
        name for n, line in page.lines.items() if n not in lines for name in NAME.findall(line)
    )
    before = {name for line in hunk.old for name in NAME.findall(line)}
    for name in sorted({one for n in lines for one in NAME.findall(page.lines.get(n, ""))}):
        if len(name) < _SHORTEST or name in before or name in elsewhere:
            continue
        places = [one for one in page.occurrences(name) if one.line in lines]
        near = [one for one in elsewhere if len(one) >= _SHORTEST and is_slip(name, one)]
        if any(one.binds or one.defines for one in places):  # a new name, unless one lacks it
            near = [one for one in near if _lacks(page, places[0], one)]
        edits = places
        meant = sorted(near, key=lambda one: -elsewhere[one])
        for rank, right in enumerate(meant[:_MOST] if edits else ()):
            yield Suggestion(
                tuple(LineEdit(one.line, one.start, one.end, right) for one in edits),
                f"{name} looks misspelt",
                _WEIGHT - 0.2 * rank,
                about=name,
                doubt=DOUBT * rank,
            )


def _lacks(page: Page, place: Occurrence, name: str) -> bool:
    """Whether the function around a place uses a name that has no value in it."""
    around = [one for one in page.occurrences(name) if place.function in one.functions]
    used = [one for one in around if one.role is Role.NAME]
    return place.function is not None and bool(used) and not any(one.binds for one in used)


def is_slip(typed: str, meant: str) -> bool:
    """Whether one is the other but for a letter left out, doubled, wrong, or swapped with the next.

    Plurals, numbered names and other cases are no slips.
    """
    short, long_ = sorted((typed, meant), key=len)
    if typed.lower() == meant.lower() or len(long_) - len(short) > 1 or not short:
        return False
    pairs = zip(short, long_, strict=False)
    head = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if len(long_) > len(short):
        more = long_[head]
        at_end = head == len(short)
        return short[head:] == long_[head + 1 :] and more.isalpha() and not (at_end and more == "s")
    a, b = short[head:], long_[head:]
    swapped = len(a) > 1 and (a[0], a[1]) == (b[1], b[0]) and a[2:] == b[2:]
    letters = a[0].isalpha() and b[0].isalpha() and a[0].islower() is b[0].islower()
    wrong = a[1:] == b[1:] and letters
    return swapped or wrong
