"""What follows from an edit of a signature: the calls give what it asks for now, by the names that
stand there, and the documentation tells of the parameters that it has.

A parameter with a default value asks nothing of the calls. Where the name of a new one has no value
at a call, what to give is for the model to find.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from fim_server.edits.history import Hunk
from fim_server.edits.rules.docstrings import entries_of, without_entry
from fim_server.edits.rules.drafts import DOUBT, SURE, LineEdit, Suggestion
from fim_server.edits.rules.page import Page
from fim_server.syntax.occurrences import RECEIVERS, Occurrence, Role
from fim_server.syntax.signatures import Argument, CallSite, Parameter, Signature

_CALL, _TEXT = 2.7, 1.2
"""How promising each is, beside the clues of `regions.py`."""

_BARE = ("java", "cpp")
"""Languages whose methods call each other without `this`."""


@dataclass(frozen=True, slots=True)
class SignatureChange:
    """What became of the parameters of a function; places count those before."""

    before: Signature
    now: Signature
    added: tuple[tuple[int, Parameter], ...] = ()
    removed: tuple[tuple[int, Parameter], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, before: Signature, now: Signature) -> SignatureChange:
        """Parameters that only changed their places are left out."""
        old = [one.name for one in before.parameters]
        new = [one.name for one in now.parameters]
        added, removed, renamed = [], [], []
        matcher = SequenceMatcher(None, old, new, autojunk=False)
        for tag, low, high, from_, to in matcher.get_opcodes():
            if tag == "replace" and high - low == to - from_:
                renamed += list(zip(old[low:high], new[from_:to], strict=True))
            elif tag != "equal":
                added += [(at, now.parameters[at]) for at in range(from_, to)]
                removed += [(at, before.parameters[at]) for at in range(low, high)]
        stay = {*old} & {*new}
        return cls(
            before,
            now,
            tuple(one for one in added if one[1].name not in stay),
            tuple(one for one in removed if one[1].name not in stay),
            tuple(pair for pair in renamed if not stay & {*pair}),
        )


def signature_changes(page: Page, hunk: Hunk) -> Iterator[SignatureChange]:
    """The signatures of a page that a hunk of it changed, each once."""
    lines = range(hunk.first, max(hunk.end, hunk.first + 1))
    new = {one.name: one for line in lines if (one := page.signature_at(line)) is not None}
    source = page.before(hunk) if new else None
    if source is None:
        return
    rows = range(hunk.first - page.first, hunk.first - page.first + max(len(hunk.old), 1))
    old = {one.name: one for row in rows if (one := source.signature_at(row)) is not None}
    for name, now in new.items():
        if name in old and old[name].parameters != now.parameters:
            yield SignatureChange.of(old[name], now)


def following_signature(page: Page, change: SignatureChange) -> Iterator[Suggestion]:
    """What the calls and the documentation of a function become."""
    reason = f"uses {change.now.called}"
    sure: list[LineEdit] = []
    doubtful: list[LineEdit] = []
    for place in page.occurrences(change.now.called):
        certain = _is_call_of(page, change.now, place)
        call = None if certain is None else page.call_of(place)
        if call is not None and not call.spreads:
            (sure if certain else doubtful).extend(_of_call(page, change, place, call))
    yield Suggestion(tuple(sure), reason, _CALL, doubt=-SURE)
    yield Suggestion(tuple(doubtful), reason, _CALL, doubt=DOUBT)
    yield from _documentation(page, change)


def _is_call_of(page: Page, function: Signature, place: Occurrence) -> bool | None:
    """Whether a name surely means a function; None if it means another one."""
    if place.defines or place.binds or place.role not in (Role.NAME, Role.ATTRIBUTE):
        return None
    row = place.line - page.first
    if function.first <= row < function.end:
        return None
    if not function.is_method:
        return True if place.role is Role.NAME else None
    if place.role is Role.NAME:
        bare = page.language is not None and page.language.names[0] in _BARE
        return True if bare and row in function.within else None
    if place.of in RECEIVERS and row not in function.within:
        return None
    return place.of in (*RECEIVERS, function.owner)


def _of_call(
    page: Page, change: SignatureChange, place: Occurrence, call: CallSite
) -> Iterator[LineEdit]:
    given = call.arguments
    required = [one for one in change.now.parameters if not one.optional]
    for keyword in given if change.now.called != change.now.name else ():
        for old, new in change.renamed:  # those of other functions are replaced with the name
            if keyword.keyword == old:
                row, start = keyword.start
                yield LineEdit(row + page.first, start, start + len(old), new)
    if len(change.added) == 1 and not change.removed and len(given) < len(required):
        at, parameter = change.added[0]
        if not parameter.optional and parameter.name:
            yield from _with(page, place, call, at, parameter)
    if len(change.removed) == 1 and not change.added and len(given) > len(required):
        at, parameter = change.removed[0]
        named = next((n for n, one in enumerate(given) if one.keyword == parameter.name), None)
        if named is None and at < len(given) and not given[at].keyword:
            named = None if parameter.keyword_only else at
        if named is not None:
            yield from _without(page, call, named)


def _with(
    page: Page, place: Occurrence, call: CallSite, at: int, parameter: Parameter
) -> Iterator[LineEdit]:
    """The argument for a new parameter, at the place `at` of its signature."""
    given, name = call.arguments, parameter.name
    value = _value(page, name, place)
    if value is None or any(one.keyword == name or one.text == value for one in given):
        return
    positional = sum(not one.keyword for one in given)
    is_python = page.language is not None and page.language.names[0] == "python"
    by_name = parameter.keyword_only or at > positional
    if by_name and not is_python:
        return
    text = f"{name}={value}" if by_name else value
    if not given:
        row, character = call.open
        yield LineEdit(row + page.first, character, character, text)
    elif not by_name and at < len(given):
        row, character = given[at].start
        yield LineEdit(row + page.first, character, character, f"{text}{_comma(page, given[at])}")
    else:
        row, character = given[-1].end
        comma = _comma(page, given[-1])
        yield LineEdit(row + page.first, character, character, f"{comma}{text}")


def _value(page: Page, name: str, place: Occurrence) -> str | None:
    """What stands for a parameter at a call: the same name, or the same attribute of `self`."""
    if page.visible(name, place):
        return name
    owner = next((one for one in RECEIVERS if page.visible(one, place)), None)
    kept = (one for one in page.occurrences(name) if one.role is Role.ATTRIBUTE)
    return f"{owner}.{name}" if owner and any(one.of == owner for one in kept) else None


def _comma(page: Page, argument: Argument) -> str:
    """What separates a new argument from this one: a line end where it has its line for itself."""
    row, start = argument.start
    line = page.lines.get(row + page.first, "")
    if argument.end[0] == row and line.strip().rstrip(",") == argument.text:
        return f",\n{line[:start]}"
    return ", "


def _without(page: Page, call: CallSite, at: int) -> Iterator[LineEdit]:
    given = call.arguments
    (row, start), (last, end) = given[at].start, given[at].end
    line = page.lines.get(row + page.first, "")
    if row != last:
        return
    if line.strip() == f"{given[at].text},":
        yield LineEdit(row + page.first, 0, len(line), "", drops=True)
        return
    if at + 1 < len(given) and given[at + 1].start[0] == row:
        end = given[at + 1].start[1]
    elif at and given[at - 1].end[0] == row:
        start = given[at - 1].end[1]
    elif len(given) > 1:
        return
    yield LineEdit(row + page.first, start, end, "")


def _documentation(page: Page, change: SignatureChange) -> Iterator[Suggestion]:
    """Entries of parameters that have another name now, or are no more."""
    for old, new in change.renamed:
        edits = [
            LineEdit(one.line, one.start, one.end, new)
            for one in entries_of(page, change.now, old, only_above=True)
        ]  # those inside are replaced with the name (`replay.py`)
        yield Suggestion(tuple(edits), f"tells of {old}", _TEXT, doubt=DOUBT)
    for _, parameter in change.removed:
        for one in entries_of(page, change.now, parameter.name):
            yield Suggestion(
                tuple(without_entry(page, one)), f"tells of {parameter.name}", _TEXT, doubt=DOUBT
            )
