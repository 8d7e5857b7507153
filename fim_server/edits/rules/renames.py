"""Rule: a renamed name is renamed wherever it is the same name, as far as the syntax tells.

A local name in its function, an attribute of the same object, a keyword argument whose parameter
was renamed, a definition wherever it is used; a word of a string or comment only where it is marked
as code. Hunks of other documents rename what those documents export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import Swap, hunk_swaps
from fim_server.syntax.occurrences import RECEIVERS, Function, Occurrence, Role

_DEFINITION = re.compile(r"\b(?:def|class|function|func|fn|struct|interface|type|enum|trait)\b")
_MARKED = re.compile(r"`\Z|(?::param|@param|:arg|:ivar)\s+(?:\S+\s+)?\Z|^\s*\Z")


def renames(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The other places of the names that a hunk renamed."""
    for swap in hunk_swaps(hunk):
        if not swap.is_name or not _is_rename(page, swap):
            continue
        if page.has(hunk):
            yield from _renamed_here(page, swap)
        elif _is_exported(hunk.new[swap.line - hunk.first]):
            yield from _renamed_elsewhere(page, swap)


def _is_rename(page: Page, swap: Swap) -> bool:
    """Whether a swap of names is a rename: a name that existed before took the old one's place only
    if that happened twice."""
    return swap.new not in page.names_before or page.swap_counts[swap.old, swap.new] > 1


def _renamed_here(page: Page, swap: Swap) -> Iterator[Draft]:
    left = page.occurrences(swap.old)
    if not left:
        return
    renamed = page.occurrences(swap.new)
    here = next((p for p in renamed if (p.line, p.start) == (swap.line, swap.start)), None)
    if here is None or here.role in (Role.TEXT, Role.OTHER):
        return
    home = _home(here, [*left, *renamed])
    # All places of a local name are known from the syntax.
    kind = "local" if home is not None else "defined" if here.defines else str(here.role)
    same = _same_name(here, home, left, [*left, *renamed])
    yield _draft(same, swap, f"still has {swap.old}", kind)
    texts = [p for p in left if p.role is Role.TEXT and (not home or home in p.functions)]
    marked = (place for place in texts if _is_code(page.lines[place.line], place, swap.old))
    yield _draft(marked, swap, f"mentions {swap.old}", "mentioned")


def _renamed_elsewhere(page: Page, swap: Swap) -> Iterator[Draft]:
    """Uses of a name that another document exports, outside of functions that bind it."""
    left = page.occurrences(swap.old)
    local = _binders(left)
    places = (
        place
        for place in left
        if place.role in (Role.NAME, Role.ATTRIBUTE) and not local & {*place.functions}
    )
    yield _draft(places, swap, f"still has {swap.old}", "exported")


def _same_name(
    here: Occurrence,
    home: Function | None,
    left: Sequence[Occurrence],
    everywhere: Sequence[Occurrence],
) -> list[Occurrence]:
    """The places left with the old name that mean the same as the edited one."""
    local = _binders(left)
    names = [place for place in left if place.role is Role.NAME]
    attributes = [place for place in left if place.role is Role.ATTRIBUTE]
    keywords = [place for place in left if place.role is Role.KEYWORD]
    if here.role is Role.KEYWORD:
        return [place for place in keywords if place.of == here.of]
    if here.defines:
        return [*(place for place in names if not local & {*place.functions}), *attributes]
    if here.role is Role.ATTRIBUTE:
        own = here.of in RECEIVERS
        return [place for place in attributes if place.of == here.of or (own and place.defines)]
    if home is None:
        return [place for place in names if not local & {*place.functions}]
    found = [
        place
        for place in names
        if home in place.functions and not local & {*place.functions[: place.functions.index(home)]}
    ]
    is_parameter = any(place.parameter and place.function == home for place in everywhere)
    if is_parameter and home.name:
        found += [place for place in keywords if place.of == home.name]
    return found


def _home(here: Occurrence, everywhere: Iterable[Occurrence]) -> Function | None:
    """The innermost function around a name that binds it; None if the name is not local."""
    if here.role is not Role.NAME or here.defines:
        return None
    binders = _binders(everywhere)
    return next((function for function in here.functions if function in binders), None)


def _binders(places: Iterable[Occurrence]) -> set[Function]:
    """The functions to which a name is local."""
    return {place.function for place in places if place.binds and place.function is not None}


def _is_exported(text: str) -> bool:
    """Whether other files can see what a line names: it is not indented, or it is a definition."""
    return bool(text) and (not text[0].isspace() or _DEFINITION.search(text) is not None)


def _is_code(line: str, place: Occurrence, name: str) -> bool:
    """Whether a word of a string or comment means the name: it is no plain word, or it is marked
    as code."""
    if "_" in name.strip("_") or not (name.islower() or name.istitle()):
        return True
    return _MARKED.search(line[: place.start]) is not None and line[place.end :].startswith(
        ("`", ":", " (", " :")
    )


def _draft(places: Iterable[Occurrence], swap: Swap, reason: str, kind: str) -> Draft:
    edits = (LineEdit(place.line, place.start, place.end, swap.new) for place in places)
    signs = Signs(kind, _likeness(swap.old, swap.new), len(swap.old), text=kind == "mentioned")
    return Draft(tuple(edits), reason, signs)


def _likeness(old: str, new: str) -> float:
    """The share of a longer name that two names have in common at their ends."""
    head = _shared(old, new)
    tail = _shared(old[head:][::-1], new[head:][::-1])
    return (head + tail) / max(len(old), len(new))


def _shared(old: str, new: str) -> int:
    """The length of the longest common prefix of two names."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
