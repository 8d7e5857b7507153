"""What a hunk changed, token by token: names and literals that were replaced, arguments that
were added or removed; and the same change applied to a similar line, as a three-way merge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fim_server.documents.alignment import opcodes
from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import CALL, KEYWORDS, NAME, similarity, tokens

_STRING = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`\n]*`"
_PIECE = re.compile(rf"[^\W\d]\w*|\d[\w.]*|{_STRING}|\s+|.")
_LITERAL = re.compile(rf"\d[\w.]*\Z|(?:{_STRING})\Z")
_OPEN, _CLOSE = "([{", ")]}"
_PUNCTUATION = re.compile(r"[^\w\"']")

_PAIRED = 0.5
"""Least Jaccard index of the tokens of an old and a new line that are the same line, changed."""

ChangedLine = tuple[int, str, str]
"""The line's number in the document now, and its text before and after."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A name or literal replaced by another, at character `start` of the line as it is now."""

    line: int
    start: int
    old: str
    new: str

    @property
    def is_name(self) -> bool:
        return bool(NAME.fullmatch(self.old) and NAME.fullmatch(self.new))


@dataclass(frozen=True, slots=True)
class ArgumentChange:
    """An argument was added (`text`) or removed (None) at position `index` of a call that had
    `count` of them before; `defined` if it is a parameter of the definition."""

    line: int
    function: str
    index: int
    count: int
    text: str | None
    defined: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A call or definition in one line: the characters `[start, end)` between its brackets and of
    each argument. `end` is None if the bracket does not close on the line."""

    function: str
    name_end: int
    start: int
    end: int | None
    arguments: tuple[tuple[int, int], ...]


def tokens_removed(hunk: Hunk) -> frozenset[str]:
    """The names and literals of a hunk's old lines that its new lines do not have."""
    gone = tokens(hunk.old) - tokens(hunk.new)
    return frozenset(token for token in gone if not _is_punctuation(token))


def tokens_added(hunk: Hunk) -> frozenset[str]:
    """The names and literals of a hunk's new lines that its old lines did not have."""
    come = tokens(hunk.new) - tokens(hunk.old)
    return frozenset(token for token in come if not _is_punctuation(token))


def token_change(hunk: Hunk) -> tuple[frozenset[tuple[str, int]], frozenset[tuple[str, int]]]:
    """The tokens that a hunk removed and those that it added, each with its number."""
    old, new = (
        Counter(piece for line in lines for piece in pieces(line) if not piece.isspace())
        for lines in (hunk.old, hunk.new)
    )
    return frozenset((old - new).items()), frozenset((new - old).items())


def changed_pairs(hunk: Hunk) -> list[ChangedLine]:
    """The changed lines of a hunk. If it has more new lines than old ones, or fewer, those that are
    alike are paired, in order."""
    if len(hunk.old) == len(hunk.new):
        pairs = zip(hunk.old, hunk.new, strict=True)
        return [(at, old, new) for at, (old, new) in enumerate(pairs, hunk.first) if old != new]
    return list(_aligned(hunk))


@lru_cache(maxsize=64)
def _aligned(hunk: Hunk) -> tuple[ChangedLine, ...]:
    """The pairs of old and new lines, in order, that share the most tokens in all."""
    old, new = ([tokens([line]) for line in lines] for lines in (hunk.old, hunk.new))
    # best[i][j]: the likeness of old lines from i on with new lines from j on.
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    alike = [[_likeness(a, b) for b in new] for a in old]
    for i in range(len(old) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], alike[i][j] + best[i + 1][j + 1])
    found, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if alike[i][j] and best[i][j] == alike[i][j] + best[i + 1][j + 1]:
            if hunk.old[i] != hunk.new[j]:
                found.append((hunk.first + j, hunk.old[i], hunk.new[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return tuple(found)


def _likeness(old: frozenset[str], new: frozenset[str]) -> float:
    alike = similarity(old, new)
    return alike if alike >= _PAIRED else 0.0


@lru_cache(maxsize=1 << 15)
def skeleton(line: str) -> tuple[str, ...]:
    """The kinds of a line's tokens: every name and literal is like any other."""
    return tuple(_kind(token) for token in pieces(line) if not token.isspace())


def pieces(line: str) -> list[str]:
    """A line split into names, numbers, strings, white space and single characters."""
    return _PIECE.findall(line)


def is_literal(token: str) -> bool:
    return _LITERAL.match(token) is not None


def swaps(line: ChangedLine) -> list[Swap]:
    """The names and literals of a line that were replaced one by one, each pair once."""
    number, before, after = line
    old, new = pieces(before), pieces(after)
    starts = _starts(new)
    found: dict[tuple[str, str], Swap] = {}
    for tag, low, high, from_, to in opcodes(old, new):
        if tag != "replace" or high - low != to - from_:
            continue
        for a, b in zip(range(low, high), range(from_, to), strict=True):
            pair = old[a], new[b]
            if old[a] == new[b] or not all(map(_is_name_or_literal, pair)):
                continue
            found.setdefault((old[a], new[b]), Swap(number, starts[b], old[a], new[b]))
    return list(found.values())


def hunk_swaps(hunk: Hunk) -> list[Swap]:
    """The names and literals that a hunk replaced one by one, each pair once; where its lines were
    wrapped or joined as well."""
    found = {
        (swap.old, swap.new): swap for pair in reversed(changed_pairs(hunk)) for swap in swaps(pair)
    }
    if len(hunk.old) != len(hunk.new) and hunk.old and hunk.new:
        for swap in reversed(swaps(joined(hunk))):
            found[swap.old, swap.new] = _placed(hunk, swap)
    return list(reversed(found.values()))


def joined(hunk: Hunk) -> ChangedLine:
    """A hunk as one changed line: its lines without indentation, one space between them."""
    old, new = (" ".join(line.strip() for line in lines) for lines in (hunk.old, hunk.new))
    return hunk.first, old, new


def _placed(hunk: Hunk, swap: Swap) -> Swap:
    """A swap of a joined hunk, where it stands in the hunk's lines."""
    start = swap.start
    for number, line in enumerate(hunk.new, hunk.first):
        size = len(line.strip())
        if start < size:
            return Swap(number, start + len(line) - len(line.lstrip()), swap.old, swap.new)
        start -= size + 1
    return swap


def only_renames(line: ChangedLine) -> bool:
    """Whether nothing changed on a line but names replaced by names."""
    old, new = pieces(line[1]), pieces(line[2])
    return len(old) == len(new) and all(
        a == b or (NAME.fullmatch(a) and NAME.fullmatch(b)) for a, b in zip(old, new, strict=True)
    )


def argument_changes(line: ChangedLine) -> list[ArgumentChange]:
    """The calls and definitions of a line that have one argument more or less than before."""
    number, before, after = line
    known = {call.function: call for call in reversed(list(calls(before)))}
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
    """The calls and definitions whose brackets open on a line."""
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


def same_shape(line: str, other: str) -> bool:
    """Whether two lines differ in nothing but names and literals."""
    return skeleton(line.strip()) == skeleton(other.strip())


def _is_name_or_literal(token: str) -> bool:
    return NAME.fullmatch(token) is not None or is_literal(token)


def _is_punctuation(token: str) -> bool:
    return len(token) == 1 and _PUNCTUATION.match(token) is not None


def _kind(token: str) -> str:
    if token in KEYWORDS:
        return token
    return "name" if NAME.fullmatch(token) else "literal" if is_literal(token) else token


def merged(base: str, theirs: str, ours: str) -> str | None:
    """`ours` with the change from `base` to `theirs` applied; None where the change does not fit.

    A number or name in which `base` and `ours` differ differs in inserted text, too.
    """
    old, new, target = pieces(base), pieces(theirs), pieces(ours)
    position: dict[int, int] = {-1: -1, len(old): len(target)}
    ours_for: dict[str, str] = {}
    for tag, low, high, from_, to in opcodes(old, target):
        if tag == "equal":
            position |= dict(zip(range(low, high), range(from_, to), strict=True))
        elif high - low == to - from_:
            differing = zip(old[low:high], target[from_:to], strict=True)
            ours_for |= {a: b for a, b in differing if _is_name_or_literal(a)}
    edits: list[tuple[int, int, list[str]]] = []
    for tag, low, high, from_, to in opcodes(old, new):
        if tag == "equal":
            continue
        inserted = [ours_for.get(token, token) for token in new[from_:to]]
        if low < high:
            spots = [position.get(at) for at in range(low, high)]
            first = spots[0]
            if first is None or spots != list(range(first, first + high - low)):
                return None
            edits.append((first, first + high - low, inserted))
        else:
            left, right = position.get(low - 1), position.get(low)
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
    """The index of the element that the longer sequence has more; None if more differs."""
    indices = (at for at in range(len(longer)) if [*longer[:at], *longer[at + 1 :]] == [*shorter])
    return next(indices, None)


def _stripped(line: str, start: int, end: int) -> tuple[int, int]:
    text = line[start:end]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def _starts(tokens: Sequence[str]) -> list[int]:
    starts, at = [], 0
    for token in tokens:
        starts.append(at)
        at += len(token)
    return starts
