"""What a person did, done elsewhere: recent hunks replayed on the rest of a page.

A name is replaced where it is the same name, as far as syntax tells: a local one in its function,
an attribute of the same object, a keyword where the parameter of that function was renamed.
Literals, arguments and passages are replaced wherever they stand, and what else was done to a line
is done to lines like it. All this is expectation: the model judges it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fim_server.edits.history import Hunk
from fim_server.edits.rules.call_sites import following_signature, signature_changes
from fim_server.edits.rules.clues import FADING, NAME, similarity, tokens
from fim_server.edits.rules.drafts import DOUBT, SURE, LineEdit, Suggestion
from fim_server.edits.rules.mirror import mirrored
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import (
    ArgumentChange,
    Call,
    Line,
    Swap,
    argument_changes,
    calls,
    changed_pairs,
    is_literal,
    merged,
    only_swaps,
    passages,
    same_shape,
    swaps,
)
from fim_server.syntax.occurrences import RECEIVERS, Function, Occurrence, Role

_NAME, _CALL, _LITERAL, _LINE, _TEXT = 3.0, 2.6, 2.6, 1.6, 1.2
"""How promising each is, beside the clues of `regions.py`."""

_ALIKE, _NEARLY = 0.5, 0.8
_LEAST_TOKENS = 4
_DEFINITION = re.compile(r"\b(?:def|class|function|func|fn|struct|interface|type|enum|trait)\b")
_MARKED = re.compile(r"`\Z|(?::param|@param|:arg|:ivar)\s+(?:\S+\s+)?\Z|^\s*\Z")
_GIVEN = re.compile(r"(?:([^\W\d]\w*)\s*=(?!=).*|(?:(?:self|this)\.)?([^\W\d]\w*))\Z")
"""An argument that tells what its parameter is called: `name=…`, `name`, `self.name`."""
_PARAMETER = re.compile(r"\s*([^\W\d]\w*)\s*(?::[^=]*)?\Z")


def replayed(page: Page, hunks: Sequence[Hunk], edited: Collection[int]) -> list[Suggestion]:
    """What follows from hunks (oldest first) of this and other documents, outside of the lines
    `edited`; that of the latest hunk first."""
    found: dict[tuple[LineEdit, ...], Suggestion] = {}
    before = _Before.of(page, hunks, edited)
    for age, hunk in enumerate(reversed(hunks)):
        for suggestion in _following(page, hunk, before):
            edits = tuple(sorted(one for one in suggestion.edits if one.line not in edited))
            if edits and edits not in found:
                weight = suggestion.weight * FADING**age
                found[edits] = replace(suggestion, edits=edits, weight=weight)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Before:
    """The names that were there before the hunks, and how often each was swapped for another."""

    names: frozenset[str]
    swapped: Counter[tuple[str, str]]

    @classmethod
    def of(cls, page: Page, hunks: Sequence[Hunk], edited: Collection[int]) -> _Before:
        kept = (line for number, line in page.lines.items() if number not in edited)
        lines = (*kept, *(line for hunk in hunks for line in hunk.old))
        pairs = (line for hunk in hunks for line in changed_pairs(hunk))
        return cls(
            frozenset(name for line in lines for name in NAME.findall(line)),
            Counter((swap.old, swap.new) for line in pairs for swap in swaps(line)),
        )

    def makes_sense(self, swap: Swap) -> bool:
        """A name that was there before took the place of another one: that is no renaming, unless
        it is done again."""
        return swap.new not in self.names or self.swapped[swap.old, swap.new] > 1

    def is_new_literal(self, swap: Swap) -> bool:
        """Likewise for a string that is a name: a key, say, that stands elsewhere already."""
        known = swap.new.strip("\"'`") in self.names
        return not swap.is_name and (not known or self.swapped[swap.old, swap.new] > 1)


def _following(page: Page, hunk: Hunk, before: _Before) -> Iterator[Suggestion]:
    own = hunk.uri == page.snapshot.uri
    for line in changed_pairs(hunk):
        yield from _following_line(page, line, before, own=own)
    if own:
        for change in signature_changes(page, hunk):
            yield from following_signature(page, change)
        yield from mirrored(page, hunk)


def _following_line(page: Page, line: Line, before: _Before, *, own: bool) -> Iterator[Suggestion]:
    for swap in swaps(line):
        if swap.is_name and before.makes_sense(swap):
            yield from _renamed(page, swap, own=own, exported=_is_exported(line))
        elif before.is_new_literal(swap) and is_literal(swap.old) and len(swap.old) > 1:
            yield from _replaced(page, swap.old, swap.new)
    for old, new in passages(line):
        yield from _replaced(page, old, new)
    for change in argument_changes(line):
        signature = page.signature_at(line[0]) if own else None
        if signature is None or signature.name != change.function:  # else see `call_sites.py`
            yield from _called(page, change)
    if own and not only_swaps(line) and page.signature_at(line[0]) is None:
        yield from _done_alike(page, line)


# Names.


def _renamed(page: Page, swap: Swap, *, own: bool, exported: bool) -> Iterator[Suggestion]:
    left = page.occurrences(swap.old)
    if not left:
        return
    reason = f"still has {swap.old}"
    if not own:
        if exported:
            local = _binders(left)
            where = [one for one in left if one.role in (Role.NAME, Role.ATTRIBUTE)]
            yield _swapped((one for one in where if not local & {*one.functions}), swap.new, reason)
        return
    come = page.occurrences(swap.new)
    here = next((one for one in come if (one.line, one.start) == (swap.line, swap.start)), None)
    if here is None or here.role in (Role.TEXT, Role.OTHER):
        return
    home = _home(here, [*left, *come])
    doubt = -SURE if home is not None else 0.0  # a local name: syntax knows all its places
    yield _swapped(_same(here, home, left, [*left, *come]), swap.new, reason, doubt=doubt)
    texts = [one for one in left if one.role is Role.TEXT and (not home or home in one.functions)]
    marked = (one for one in texts if _is_code(page.lines[one.line], one, swap.old))
    yield _swapped(marked, swap.new, f"tells of {swap.old}", _TEXT, DOUBT)


def _same(
    here: Occurrence, home: Function | None, left: Sequence[Occurrence], all_: Sequence[Occurrence]
) -> list[Occurrence]:
    """Those of the places left that mean the same as the edited one."""
    local = _binders(left)
    names = [one for one in left if one.role is Role.NAME]
    attributes = [one for one in left if one.role is Role.ATTRIBUTE]
    if here.role is Role.KEYWORD:
        return [one for one in left if one.role is Role.KEYWORD and one.of == here.of]
    if here.defines:
        return [*(one for one in names if not local & {*one.functions}), *attributes]
    if here.role is Role.ATTRIBUTE:
        own = here.of in RECEIVERS
        return [one for one in attributes if one.of == here.of or (own and one.defines)]
    if home is None:
        return [one for one in names if not local & {*one.functions}]
    is_parameter = any(one.parameter and one.function == home for one in all_)
    found = [
        one
        for one in names
        if home in one.functions and not local & {*one.functions[: one.functions.index(home)]}
    ]
    if is_parameter and home.name:
        found += [one for one in left if one.role is Role.KEYWORD and one.of == home.name]
    return found


def _home(here: Occurrence, everywhere: Iterable[Occurrence]) -> Function | None:
    """The innermost function around a name that binds it; None if the name is not local."""
    if here.role is not Role.NAME or here.defines:
        return None
    binders = _binders(everywhere)
    return next((one for one in here.functions if one in binders), None)


def _binders(places: Iterable[Occurrence]) -> set[Function]:
    """The functions to which a name is local."""
    return {one.function for one in places if one.binds and one.function is not None}


def _is_exported(line: Line) -> bool:
    """Whether a changed line says something to other files."""
    text = line[2]
    return bool(text) and (not text[0].isspace() or _DEFINITION.search(text) is not None)


def _is_code(line: str, place: Occurrence, name: str) -> bool:
    """Whether a word of a text means the name: one that is no word of a language, or marked."""
    if "_" in name.strip("_") or not (name.islower() or name.istitle()):
        return True
    return _MARKED.search(line[: place.start]) is not None and line[place.end :].startswith(
        ("`", ":", " (", " :")
    )


def _swapped(
    places: Iterable[Occurrence],
    new: str,
    reason: str,
    weight: float = _NAME,
    doubt: float = 0.0,
) -> Suggestion:
    edits = (LineEdit(one.line, one.start, one.end, new) for one in places)
    return Suggestion(tuple(edits), reason, weight, doubt=doubt)


# Literals, passages, arguments and whole lines.


def _replaced(page: Page, old: str, new: str) -> Iterator[Suggestion]:
    """A text wherever it stands as a whole."""
    start, end = (r"(?<!\w)" if old[0].isalnum() else ""), (r"(?!\w)" if old[-1].isalnum() else "")
    pattern = re.compile(rf"{start}{re.escape(old)}{end}")
    yield Suggestion(
        tuple(
            LineEdit(number, match.start(), match.end(), new)
            for number, line in page.lines.items()
            for match in pattern.finditer(line)
        ),
        f"still has {old.strip()}",
        _LITERAL,
    )


def _called(page: Page, change: ArgumentChange) -> Iterator[Suggestion]:
    """The other calls of a function get the argument that one got, or its new parameter."""
    places = page.occurrences(change.function)
    here = next((one for one in places if one.line == change.line), None)
    edits = []
    for place in places:
        if place.line == change.line or not (here is None or _is_same_function(here, place)):
            continue
        line = page.lines[place.line]
        for call in calls(line):
            if call.start > place.end == call.name_end:
                edit = _with(page, place, call, change)
                edits += [] if edit is None else [edit]
    yield Suggestion(tuple(edits), f"uses {change.function}", _CALL)


def _is_same_function(here: Occurrence, there: Occurrence) -> bool:
    if there.role not in (Role.NAME, Role.ATTRIBUTE):
        return False
    if here.role is Role.ATTRIBUTE and there.role is Role.ATTRIBUTE:
        own = here.of in RECEIVERS or there.of in RECEIVERS
        return here.defines or there.of == here.of or (own and there.defines)
    return here.role is there.role or here.defines


def _with(page: Page, at: Occurrence, call: Call, change: ArgumentChange) -> LineEdit | None:
    number, line = at.line, page.lines[at.line]
    there = call.arguments
    defines = _DEFINITION.search(line[: call.start]) is not None
    place, count, text = change.place, change.count, change.text
    if change.defined and not defines and place and _has_self(change, line):
        place, count = place - 1, count - 1
    elif defines and not change.defined and there and line[slice(*there[0])] in RECEIVERS:
        place, count = place + 1, count + 1
    if text is None:
        return _without(number, call, place) if len(there) == count and place < count else None
    if change.defined and not defines:
        match = _PARAMETER.match(text)
        if match is None:  # it has a value unless a call gives one
            return None
        text = match[1]
        if page.has_syntax and not page.visible(text, at):
            return None
    elif defines and not change.defined:
        match = _GIVEN.match(text)
        if match is None:  # a parameter has no name yet
            return None
        text = match[1] or match[2]
    if any(line[start:end] == text for start, end in there):
        return None
    if not there:
        return None if call.end is None else LineEdit(number, call.start, call.start, text)
    if place == 0:
        return LineEdit(number, there[0][0], there[0][0], f"{text}, ")
    if place >= count:
        if call.end is None:
            return None
        return LineEdit(number, there[-1][1], there[-1][1], f", {text}")
    if place < len(there):
        return LineEdit(number, there[place][0], there[place][0], f"{text}, ")
    return None


def _without(number: int, call: Call, place: int) -> LineEdit:
    there = call.arguments
    if len(there) == 1:
        return LineEdit(number, *there[0], "")
    if place + 1 < len(there):
        return LineEdit(number, there[place][0], there[place + 1][0], "")
    return LineEdit(number, there[place - 1][1], there[place][1], "")


def _has_self(change: ArgumentChange, line: str) -> bool:
    """Whether a call is one of a method, whose first parameter it does not give."""
    return re.search(rf"\.\s*{change.function}\s*\(", line) is not None


def _done_alike(page: Page, line: Line) -> Iterator[Suggestion]:
    number, before, after = line
    old, new = tokens([before]), tokens([after])
    if len(old) < _LEAST_TOKENS:
        return
    for other, text in page.lines.items():
        here = tokens([text])
        alike = similarity(here, old)
        if other == number or alike < _ALIKE or alike <= similarity(here, new):
            continue
        if alike >= _NEARLY or same_shape(before, text):
            made = merged(before, after, text)
            if made is not None:
                edit = LineEdit(other, 0, len(text), made)
                yield Suggestion((edit,), "looks like a line that changed", _LINE, doubt=DOUBT)
