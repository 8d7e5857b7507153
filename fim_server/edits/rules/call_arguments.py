"""Rule: an argument that one call gained or lost is added to or removed from the function's other
calls and its definition.

Read line by line, so it needs no syntax. Where the syntax knows the edited signature, the rule
`call_sites` takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import similarity, tokens
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import (
    ArgumentChange,
    Call,
    ChangedLine,
    argument_changes,
    calls,
    changed_pairs,
)
from fim_server.syntax.occurrences import RECEIVERS, Occurrence, Role

_DEFINITION = re.compile(r"\b(?:def|class|function|func|fn|struct|interface|type|enum|trait)\b")
_NAMING_ARGUMENT = re.compile(r"(?:([^\W\d]\w*)\s*=(?!=).*|(?:(?:self|this)\.)?([^\W\d]\w*))\Z")
"""An argument from which the parameter's name follows: `name=…`, `name`, `self.name`."""
_REQUIRED_PARAMETER = re.compile(r"\s*([^\W\d]\w*)\s*(?::[^=]*)?\Z")


def call_arguments(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The other calls of the functions in whose calls a hunk added or removed an argument."""
    for line in changed_pairs(hunk):
        for change in argument_changes(line):
            signature = page.signature_at(line[0]) if page.has(hunk) else None
            if signature is None or signature.name != change.function:
                yield from _other_calls(page, change, line)


def _other_calls(page: Page, change: ArgumentChange, line: ChangedLine) -> Iterator[Draft]:
    places = page.occurrences(change.function)
    here = next((place for place in places if place.line == change.line), None)
    kind = ("removed" if change.text is None else "added") + ("_below" if change.defined else "")
    edited = tokens([line[1]])
    for place in places:
        if place.line == change.line or not (here is None or _is_same_function(here, place)):
            continue
        for call in calls(page.lines[place.line]):
            if call.start > place.end == call.name_end:
                edit = _with_change(page, place, call, change)
                if edit is not None:
                    alike = similarity(tokens([page.lines[place.line]]), edited)
                    signs = Signs(kind, alike, change.count)
                    yield Draft((edit,), f"uses {change.function}", signs)


def _is_same_function(here: Occurrence, there: Occurrence) -> bool:
    if there.role not in (Role.NAME, Role.ATTRIBUTE):
        return False
    if here.role is Role.ATTRIBUTE and there.role is Role.ATTRIBUTE:
        own = here.of in RECEIVERS or there.of in RECEIVERS
        return here.defines or there.of == here.of or (own and there.defines)
    return here.role is there.role or here.defines


def _with_change(page: Page, at: Occurrence, call: Call, change: ArgumentChange) -> LineEdit | None:
    """The edit that makes the same change to a call or definition; None where it does not fit."""
    number, line = at.line, page.lines[at.line]
    spans = call.arguments
    defines = _DEFINITION.search(line[: call.start]) is not None
    index, count, text = change.index, change.count, change.text
    if change.defined and not defines and index and _is_method_call(change, line):
        index, count = index - 1, count - 1
    elif defines and not change.defined and spans and line[slice(*spans[0])] in RECEIVERS:
        index, count = index + 1, count + 1
    if text is None:
        fits = len(spans) == count and index < count
        return _without_argument(number, call, index) if fits else None
    if change.defined and not defines:
        match = _REQUIRED_PARAMETER.match(text)
        if match is None:  # a parameter with a default value needs no argument
            return None
        text = match[1]
        if page.has_syntax and not page.visible(text, at):
            return None
    elif defines and not change.defined:
        match = _NAMING_ARGUMENT.match(text)
        if match is None:
            return None
        text = match[1] or match[2]
    if any(line[start:end] == text for start, end in spans):
        return None
    if not spans:
        return None if call.end is None else LineEdit(number, call.start, call.start, text)
    if index == 0:
        return LineEdit(number, spans[0][0], spans[0][0], f"{text}, ")
    if index >= count:
        if call.end is None:
            return None
        return LineEdit(number, spans[-1][1], spans[-1][1], f", {text}")
    if index < len(spans):
        return LineEdit(number, spans[index][0], spans[index][0], f"{text}, ")
    return None


def _without_argument(number: int, call: Call, index: int) -> LineEdit:
    """The deletion of an argument with its comma."""
    spans = call.arguments
    if len(spans) == 1:
        return LineEdit(number, *spans[0], "")
    if index + 1 < len(spans):
        return LineEdit(number, spans[index][0], spans[index + 1][0], "")
    return LineEdit(number, spans[index - 1][1], spans[index][1], "")


def _is_method_call(change: ArgumentChange, line: str) -> bool:
    """Whether a call is one of a method, whose receiver is not among its arguments."""
    return re.search(rf"\.\s*{change.function}\s*\(", line) is not None
