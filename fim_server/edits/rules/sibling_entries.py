"""Rule: a new entry beside another one gets its like wherever that other one has an entry.

After `highlight` was put beside `match` in one list, it follows `match` in the others: a line with
its name below each line of a row of like lines, an element in each list, as in `__all__`,
re-exports, fields, match arms, keyword arguments and the assignments of a constructor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fim_server.documents.alignment import opcodes
from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import count_tokens, indentation
from fim_server.edits.rules.code_tokens import KEYWORDS, NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import read_import
from fim_server.edits.rules.inserted_lines import nearest
from fim_server.edits.rules.like_blocks import carried, substitution
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.signature_changes import signature_changes
from fim_server.edits.rules.token_diff import changed_pairs, pieces, skeleton, words

_MAX_NEW = 4
"""New lines of a hunk that are looked at."""

_MAX_PLACES = 30
"""Lines with the other entry's name; a name on more is no entry."""

_MAX_ROW = 3
"""Siblings beyond the other entry that are compared."""

_SEPARATORS = (",", "|")
_QUOTED = re.compile(r"([\"'`])([\w.-]+)\1\Z")


@dataclass(frozen=True, slots=True)
class _Entry:
    """The name `new` was put beside the name `model`: after it, or before it if `first`. row: the
    names beyond the model, the nearest first. line: where it was."""

    line: int
    model: str
    new: str
    first: bool
    row: tuple[str, ...]
    kind: str


def sibling_entries(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The places where the model of a hunk's new entry has an entry, and the new one has none."""
    if not page.has(hunk) or hunk.blank:
        return
    for entry in dict.fromkeys(_entries(page, hunk)):
        yield from _elsewhere(page, entry)


def _entries(page: Page, hunk: Hunk) -> Iterator[_Entry]:
    pairs = changed_pairs(hunk)
    if len(hunk.new) > len(hunk.old):
        known = {number for number, _, _ in pairs}
        fresh = [
            number
            for number, line in enumerate(hunk.new, hunk.first)
            if number not in known and line.strip() and line not in hunk.old
        ]
        for number in fresh if len(fresh) <= _MAX_NEW else ():
            yield from _of_line(page, number, {*fresh})
    for number, before, after in pairs:
        yield from _of_list(number, before, after)
    for change in signature_changes(page, hunk):
        names = [parameter.name for parameter in change.now.parameters]
        for at, parameter in change.added:
            if at and parameter.name:
                row = tuple(reversed(names[max(at - 1 - _MAX_ROW, 0) : at - 1]))
                yield _Entry(hunk.first, names[at - 1], parameter.name, False, row, "parameter")


def _of_line(page: Page, number: int, fresh: set[int]) -> Iterator[_Entry]:
    """The entry of a new line beside a line of its shape."""
    line = page.line(number)
    shape = skeleton(line.strip())
    for step in (-1, 1):
        at = nearest(page, number + step, step)
        while at is not None and at in fresh:
            at = nearest(page, at + step, step)
        if at is None or skeleton(page.line(at).strip()) != shape:
            continue
        names = substitution([page.line(at)], [line]) or {}
        differing = [(_plain(a), _plain(b)) for a, b in names.items() if a != b]
        for model, new in differing if len(differing) <= 2 else ():
            if model and new:
                row = tuple(_row(page, at, step, model, shape))
                yield _Entry(number, model, new, step > 0, row, "line")


def _row(page: Page, at: int, step: int, model: str, shape: tuple[str, ...]) -> Iterator[str]:
    """What stands in the place of a name in the like lines beyond its line."""
    for _ in range(_MAX_ROW):
        beyond = nearest(page, at + step, step)
        if beyond is None or skeleton(page.line(beyond).strip()) != shape:
            return
        names = substitution([page.line(at)], [page.line(beyond)]) or {}
        plain = {_plain(a): _plain(b) for a, b in names.items()}
        if not plain.get(model):
            return
        at, model = beyond, plain[model]
        yield model


def _of_list(number: int, before: str, after: str) -> Iterator[_Entry]:
    """The entries of names that a line gained in a list."""
    old, new = pieces(before), pieces(after)
    for tag, _, _, low, high in opcodes(old, new):
        inserted = [piece for piece in new[low:high] if not piece.isspace()]
        named = [_plain(piece) for piece in inserted]
        fresh = {name for name in named if name}
        if tag != "insert" or len(fresh) != 1 or not {*inserted} & {*_SEPARATORS}:
            continue
        [name] = fresh
        left = [piece for piece in reversed(new[:low]) if not piece.isspace()]
        right = [piece for piece in new[high:] if not piece.isspace()]
        for first, around in ((False, left), (True, right)):
            row = list(_elements(around))
            if row:
                yield _Entry(number, row[0], name, first, tuple(row[1 : 1 + _MAX_ROW]), "list")
                break


def _elements(tokens: Sequence[str]) -> Iterator[str]:
    """The names of a list from its beginning on, up to the first that is not alone."""
    for token in tokens:
        if name := _plain(token):
            yield name
        elif token not in _SEPARATORS:
            return


def _plain(piece: str) -> str:
    """The name that a token is, or that stands in its quotes; "" for another token."""
    quoted = _QUOTED.match(piece)
    name = quoted[2] if quoted else piece
    return name if NAME.match(name) and name not in KEYWORDS and len(name) > 1 else ""


def _elsewhere(page: Page, entry: _Entry) -> Iterator[Draft]:
    names = _variants(entry.model, entry.new)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, names)) + r")(?!\w)")
    places = [
        number
        for number, line in page.lines.items()
        if number != entry.line and pattern.search(line)
    ]
    there = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, names.values())) + r")(?!\w)")
    for number in places if len(places) <= _MAX_PLACES else ():
        around = (number - 1, number, number + 1)
        if any(there.search(page.line(at)) or at in page.edited_lines for at in around):
            continue
        if entry.kind == "list":
            yield from _in_lists(page, entry, names, number, pattern)
        if read_import(page.line(number)) is None:
            yield from _as_line(page, entry, names, number)


def _in_lists(
    page: Page, entry: _Entry, names: Mapping[str, str], number: int, pattern: re.Pattern[str]
) -> Iterator[Draft]:
    """The new element in the lists of a line."""
    line = page.line(number)
    for found in pattern.finditer(line):
        start, end = found.span()
        quote = line[end : end + 1] if line[end : end + 1] in "\"'`" else ""
        if quote and line[start - 1 : start] != quote:
            continue
        start, end = start - len(quote), end + len(quote)
        left, right = line[:start].rstrip(), line[end:].lstrip()
        sign = next((s for s in _SEPARATORS if right.startswith(s) or left.endswith(s)), "")
        opened = left.endswith((*_SEPARATORS, "(", "[", "{", "import")) or not left
        closed = right.startswith((*_SEPARATORS, ")", "]", "}")) or not right
        if not sign or not opened or not closed or line.strip() == f"{found[0]}{sign}":
            continue
        new = f"{quote}{names[found[0]]}{quote}"
        gap = " " if sign == "|" else ""
        if entry.first:
            edit = LineEdit(number, start, start, f"{new}{gap}{sign} ")
        else:
            edit = LineEdit(number, end, end, f"{gap}{sign} {new}")
        beyond = [_plain(piece) for piece in pieces(right if entry.first else left)]
        row = [name for name in (beyond if entry.first else beyond[::-1]) if name]
        same = _agreeing(entry, names, found[0], [{name} for name in row])
        yield Draft(
            (edit,), f"{entry.model} is here too", _signs(page, entry, "listed", number, same)
        )


def _as_line(page: Page, entry: _Entry, names: Mapping[str, str], number: int) -> Iterator[Draft]:
    """The new line in a row of like lines."""
    line = page.line(number)
    shape = skeleton(line.strip())
    step = 1 if entry.first else -1
    row = []
    for at in range(number + step, number + step * (_MAX_ROW + 1), step):
        if not page.line(at).strip() or skeleton(page.line(at).strip()) != shape:
            break
        row.append({_plain(piece) for piece in pieces(page.line(at))})
    if not row and skeleton(page.line(number - step).strip()) != shape:
        return
    [new] = carried(
        [line], dict(names) | {f"{q}{a}{q}": f"{q}{b}{q}" for a, b in names.items() for q in "\"'`"}
    )
    if new == line:
        return
    if entry.first:
        edit = LineEdit(number, 0, 0, f"{new}\n")
    else:
        edit = LineEdit(number, len(line), len(line), f"\n{new}")
    model = next(name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line))
    same = _agreeing(entry, names, model, row)
    yield Draft((edit,), f"{entry.model} is here too", _signs(page, entry, "like", number, same))


def _signs(page: Page, entry: _Entry, kind: str, number: int, same: int) -> Signs:
    line = page.line(number)
    return Signs(
        f"{entry.kind}_{kind}",
        same / len(entry.row) if entry.row else 0.5,
        count_tokens([line]),
        same,
        text=page.is_text(number, len(indentation(line))),
    )


def _agreeing(entry: _Entry, names: Mapping[str, str], model: str, row: Sequence[set[str]]) -> int:
    """How many siblings beyond the model are the same as where the new entry was made."""
    style = [*names].index(model)
    count = 0
    for known, here in zip(entry.row, row, strict=False):
        styled = [*_variants(known, known)]
        if not here & {known, *styled[style : style + 1]}:
            break
        count += 1
    return count


def _variants(model: str, new: str) -> dict[str, str]:
    """Names as they are, and as they are written elsewhere: `file_name` as `fileName`, `FileName`,
    `FILE_NAME` and `file-name`."""
    found = {model: new}
    a, b = ([part for part in words(name) if part.isalnum()] for name in (model, new))
    if a and b and len(model) > 2:
        for style in (_snake, _camel, _pascal, _upper, _kebab):
            found.setdefault(style(a), style(b))
    return found


def _snake(parts: Sequence[str]) -> str:
    return "_".join(parts).lower()


def _upper(parts: Sequence[str]) -> str:
    return "_".join(parts).upper()


def _kebab(parts: Sequence[str]) -> str:
    return "-".join(parts).lower()


def _pascal(parts: Sequence[str]) -> str:
    return "".join(part[:1].upper() + part[1:].lower() for part in parts)


def _camel(parts: Sequence[str]) -> str:
    joined = _pascal(parts)
    return joined[:1].lower() + joined[1:]
