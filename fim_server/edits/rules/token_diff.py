"""What a person's hunks did, token by token: names and literals that became others, arguments that
came or went, and passages. And the same done to a similar line, as a three-way merge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from fim_server.edits.history import Hunk
from fim_server.edits.rules.clues import CALL, NAME

_STRING = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`\n]*`"
_PIECE = re.compile(rf"[^\W\d]\w*|\d[\w.]*|{_STRING}|\s+|.")
_LITERAL = re.compile(rf"\d[\w.]*\Z|(?:{_STRING})\Z")
_DEFINES = re.compile(r"\b(?:def|function|func|fn)\s+\w+\s*\(\Z")
_OPEN, _CLOSE = "([{", ")]}"

Line = tuple[int, str, str]
"""Its number in the document now, and its text before and after."""


@dataclass(frozen=True, slots=True)
class Swap:
    """One name or literal became another, at character `start` of a line as it is now."""

    line: int
    start: int
    old: str
    new: str

    @property
    def is_name(self) -> bool:
        return bool(NAME.fullmatch(self.old) and NAME.fullmatch(self.new))


@dataclass(frozen=True, slots=True)
class ArgumentChange:
    """An argument came (`text`) or went (None) at a place among those of a call, of which there
    were `count`; `defined` if it is the definition that changed."""

    line: int
    function: str
    place: int
    count: int
    text: str | None
    defined: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it stands in a line: each argument's characters `[start, end)`, and those of all
    that is between the brackets; its end is None where the bracket does not close in the line."""

    function: str
    name_end: int
    start: int
    end: int | None
    arguments: tuple[tuple[int, int], ...]


def changed_pairs(hunk: Hunk) -> list[Line]:
    """The changed lines of a hunk that correspond to one before."""
    if len(hunk.old) != len(hunk.new):
        return []
    pairs = zip(hunk.old, hunk.new, strict=True)
    return [(at, old, new) for at, (old, new) in enumerate(pairs, hunk.first) if old != new]


def pieces(line: str) -> list[str]:
    """Names, numbers, strings, white space and single signs; together they are the line."""
    return _PIECE.findall(line)


def is_literal(token: str) -> bool:
    return _LITERAL.match(token) is not None


def swaps(line: Line) -> list[Swap]:
    """Single names and literals that became others, each once."""
    number, before, after = line
    old, new = pieces(before), pieces(after)
    starts = _starts(new)
    found: dict[tuple[str, str], Swap] = {}
    for tag, low, high, from_, to in _opcodes(old, new):
        if tag != "replace" or high - low != to - from_:
            continue
        for a, b in zip(range(low, high), range(from_, to), strict=True):
            both = old[a], new[b]
            if old[a] == new[b] or not all(NAME.fullmatch(one) or is_literal(one) for one in both):
                continue
            found.setdefault((old[a], new[b]), Swap(number, starts[b], old[a], new[b]))
    return list(found.values())


def only_swaps(line: Line) -> bool:
    """Whether names becoming other names is all that changed."""
    old, new = pieces(line[1]), pieces(line[2])
    return len(old) == len(new) and all(
        a == b or (NAME.fullmatch(a) and NAME.fullmatch(b)) for a, b in zip(old, new, strict=True)
    )


def passages(line: Line) -> list[tuple[str, str]]:
    """Longer pieces of text that became others; what only came or went is none."""
    old, new = pieces(line[1]), pieces(line[2])
    found = []
    for tag, low, high, from_, to in _opcodes(old, new):
        before = "".join(old[low:high])
        if tag == "replace" and high - low > 1 and len(before.strip()) > 3:
            found.append((before, "".join(new[from_:to])))
    return found


def argument_changes(line: Line) -> list[ArgumentChange]:
    """Calls and definitions of the line that have one argument more or less than before."""
    number, before, after = line
    known = {one.function: one for one in reversed(list(calls(before)))}
    found = []
    for call in calls(after):
        was = known.get(call.function)
        if was is None:
            continue
        old = [before[start:end] for start, end in was.arguments]
        new = [after[start:end] for start, end in call.arguments]
        defined = (
            re.search(rf"\b(?:def|function|func|fn)\s+{call.function}\s*\(", after) is not None
        )
        if len(new) == len(old) + 1 and (at := _extra(new, old)) is not None:
            found.append(ArgumentChange(number, call.function, at, len(old), new[at], defined))
        elif len(old) == len(new) + 1 and (at := _extra(old, new)) is not None:
            found.append(ArgumentChange(number, call.function, at, len(old), None, defined))
    return found


def calls(line: str) -> Iterator[Call]:
    """All calls and definitions with brackets that open in a line."""
    for match in CALL.finditer(line):
        arguments, depth, at = [], 0, match.end()
        start = at
        end = None
        for piece in _PIECE.finditer(line, at):
            token = piece[0]
            if token in _CLOSE and depth == 0:
                end = piece.start()
                break
            if token == "," and depth == 0:
                arguments.append(_stripped(line, start, piece.start()))
                start = piece.end()
            depth += (token in _OPEN) - (token in _CLOSE)
        last = _stripped(line, start, len(line) if end is None else end)
        if last[0] < last[1]:
            arguments.append(last)
        yield Call(match[1], match.end(1), at, end, tuple(arguments))


def same_shape(one: str, other: str) -> bool:
    """Whether two lines differ in names and literals alone."""
    a, b = ([_kind(token) for token in pieces(line.strip())] for line in (one, other))
    return a == b


def _kind(token: str) -> str:
    return "name" if NAME.fullmatch(token) else "literal" if is_literal(token) else token


def merged(base: str, theirs: str, ours: str) -> str | None:
    """`ours` changed as `base` was to become `theirs`; None where that cannot be told.

    What differs between base and ours in the same place (a number, a name) differs in what is
    inserted, too.
    """
    old, new, target = pieces(base), pieces(theirs), pieces(ours)
    place: dict[int, int] = {-1: -1, len(old): len(target)}
    other: dict[str, str] = {}
    for tag, low, high, from_, to in _opcodes(old, target):
        if tag == "equal":
            place |= dict(zip(range(low, high), range(from_, to), strict=True))
        elif high - low == to - from_:
            place_of = zip(old[low:high], target[from_:to], strict=True)
            other |= {a: b for a, b in place_of if NAME.fullmatch(a) or is_literal(a)}
    edits: list[tuple[int, int, list[str]]] = []
    for tag, low, high, from_, to in _opcodes(old, new):
        if tag == "equal":
            continue
        inserted = [other.get(token, token) for token in new[from_:to]]
        if low < high:
            spots = [place.get(at) for at in range(low, high)]
            first = spots[0]
            if first is None or spots != list(range(first, first + high - low)):
                return None
            edits.append((first, first + high - low, inserted))
        else:
            left, right = place.get(low - 1), place.get(low)
            if right is not None and (left is None or old[low : low + 1] != [" "]):
                edits.append((right, right, inserted))
            elif left is not None:
                edits.append((left + 1, left + 1, inserted))
            else:
                return None
    for first, end, inserted in reversed(edits):
        target[first:end] = inserted
    found = "".join(target)
    return None if found == ours else found


def _extra(longer: Sequence[str], shorter: Sequence[str]) -> int | None:
    """The place of the one element more."""
    places = (at for at in range(len(longer)) if [*longer[:at], *longer[at + 1 :]] == [*shorter])
    return next(places, None)


def _stripped(line: str, start: int, end: int) -> tuple[int, int]:
    text = line[start:end]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def _starts(tokens: Sequence[str]) -> list[int]:
    starts, at = [], 0
    for token in tokens:
        starts.append(at)
        at += len(token)
    return starts


def _opcodes(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
