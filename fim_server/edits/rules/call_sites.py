"""Rule: after a signature changed, its calls give the arguments that it has now.

A parameter with a default value needs no argument. A required one is given the variable of its
name, or the attribute of `self`; where neither exists, no draft is made.
"""

from __future__ import annotations

from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.signature_changes import SignatureChange, signature_changes
from fim_server.syntax.occurrences import RECEIVERS, Occurrence, Role
from fim_server.syntax.signatures import Argument, CallSite, Parameter, Signature

_BARE = ("java", "cpp")
"""Languages whose methods call each other without `this`."""


def call_sites(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The calls of the functions whose signatures a hunk of the page changed: those that surely
    mean the function as one draft, and those that may as another."""
    for change in signature_changes(page, hunk):
        reason = f"uses {change.now.called}"
        sure: list[LineEdit] = []
        doubtful: list[LineEdit] = []
        for place in page.occurrences(change.now.called):
            certain = _is_call_of(page, change.now, place)
            call = None if certain is None else page.call_of(place)
            if call is not None and not call.spreads:
                (sure if certain else doubtful).extend(_call_edits(page, change, place, call))
        yield Draft(tuple(sure), reason, Signs("sure"))
        yield Draft(tuple(doubtful), reason, Signs("doubtful"))


def _is_call_of(page: Page, function: Signature, place: Occurrence) -> bool | None:
    """True if a name means a function, False if it may, None if it means something else."""
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


def _call_edits(
    page: Page, change: SignatureChange, place: Occurrence, call: CallSite
) -> Iterator[LineEdit]:
    """The edits that fit one call to the new signature."""
    given = call.arguments
    required = [parameter for parameter in change.now.parameters if not parameter.optional]
    # The keywords of a constructor's calls; those of other functions are left to `renames`.
    for keyword in given if change.now.called != change.now.name else ():
        for old, new in change.renamed:
            if keyword.keyword == old:
                row, start = keyword.start
                yield LineEdit(row + page.first, start, start + len(old), new)
    if len(change.added) == 1 and not change.removed and len(given) < len(required):
        at, parameter = change.added[0]
        if not parameter.optional and parameter.name:
            yield from _with_argument(page, place, call, at, parameter)
    if len(change.removed) == 1 and not change.added and len(given) > len(required):
        at, parameter = change.removed[0]
        index = next(
            (n for n, argument in enumerate(given) if argument.keyword == parameter.name), None
        )
        if index is None and at < len(given) and not given[at].keyword:
            index = None if parameter.keyword_only else at
        if index is not None:
            yield from _without_argument(page, call, index)


def _with_argument(
    page: Page, place: Occurrence, call: CallSite, at: int, parameter: Parameter
) -> Iterator[LineEdit]:
    """The insertion of an argument for the new parameter at index `at` of the signature."""
    given, name = call.arguments, parameter.name
    value = _value(page, name, place)
    if value is None:
        return
    if any(argument.keyword == name or argument.text == value for argument in given):
        return
    positional = sum(not argument.keyword for argument in given)
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
        separator = _separator(page, given[at])
        yield LineEdit(row + page.first, character, character, f"{text}{separator}")
    else:
        row, character = given[-1].end
        separator = _separator(page, given[-1])
        yield LineEdit(row + page.first, character, character, f"{separator}{text}")


def _value(page: Page, name: str, place: Occurrence) -> str | None:
    """The value for a parameter at a call: the variable of that name, or the attribute of `self`;
    None if there is neither."""
    if page.visible(name, place):
        return name
    owner = next((receiver for receiver in RECEIVERS if page.visible(receiver, place)), None)
    attributes = (found for found in page.occurrences(name) if found.role is Role.ATTRIBUTE)
    return f"{owner}.{name}" if owner and any(a.of == owner for a in attributes) else None


def _separator(page: Page, argument: Argument) -> str:
    """What separates a new argument from an existing one: a line break if that one has a line of
    its own."""
    row, start = argument.start
    line = page.lines.get(row + page.first, "")
    if argument.end[0] == row and line.strip().rstrip(",") == argument.text:
        return f",\n{line[:start]}"
    return ", "


def _without_argument(page: Page, call: CallSite, at: int) -> Iterator[LineEdit]:
    """The deletion of an argument with its comma; none if that takes more than a line."""
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
