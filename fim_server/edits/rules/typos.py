"""Rule: a name just written that is found nowhere else, and one typo away from a name that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import NAME, names
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.syntax.occurrences import Occurrence, Role

_SHORTEST = 3
_MAX_CORRECTIONS = 3


def typos(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """Corrections within the document's latest hunk, once the cursor has left its lines."""
    lines = range(hunk.first, hunk.end)
    if not page.has(hunk) or hunk is not page.own_hunks[-1] or page.cursor in lines:
        return
    elsewhere = Counter(
        name for n, line in page.lines.items() if n not in lines for name in NAME.findall(line)
    )
    before = names(hunk.old)
    for name in sorted(names(page.lines.get(n, "") for n in lines)):
        if len(name) < _SHORTEST or name in before or name in elsewhere:
            continue
        places = [place for place in page.occurrences(name) if place.line in lines]
        if not places:
            continue
        near = [known for known in elsewhere if len(known) >= _SHORTEST and is_typo(name, known)]
        # A name that is bound here is a new one, unless the function lacks a value for the other.
        if any(place.binds or place.defines for place in places):
            near = [known for known in near if _lacks_value(page, places[0], known)]
        likeliest = sorted(near, key=lambda known: -elsewhere[known])
        for rank, right in enumerate(likeliest[:_MAX_CORRECTIONS]):
            yield Draft(
                tuple(LineEdit(place.line, place.start, place.end, right) for place in places),
                f"{name} looks misspelt",
                Signs(tokens=len(name), rank=rank),
                about=name,
            )


def _lacks_value(page: Page, place: Occurrence, name: str) -> bool:
    """Whether the function around a place uses a name that it does not bind."""
    around = [found for found in page.occurrences(name) if place.function in found.functions]
    used = [found for found in around if found.role is Role.NAME]
    return place.function is not None and bool(used) and not any(found.binds for found in used)


def is_typo(typed: str, meant: str) -> bool:
    """Whether two names differ by one letter left out, added or wrong, or two swapped
    (Damerau-Levenshtein distance 1).

    Plurals, numbered names and names that differ in case are no typos.
    """
    short, long_ = sorted((typed, meant), key=len)
    if typed.lower() == meant.lower() or len(long_) - len(short) > 1 or not short:
        return False
    pairs = zip(short, long_, strict=False)
    head = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if len(long_) > len(short):
        extra = long_[head]
        at_end = head == len(short)
        is_plural = at_end and extra == "s"
        return short[head:] == long_[head + 1 :] and extra.isalpha() and not is_plural
    a, b = short[head:], long_[head:]
    swapped = len(a) > 1 and (a[0], a[1]) == (b[1], b[0]) and a[2:] == b[2:]
    letters = a[0].isalpha() and b[0].isalpha() and a[0].islower() is b[0].islower()
    wrong = a[1:] == b[1:] and letters
    return swapped or wrong
