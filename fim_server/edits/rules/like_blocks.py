"""Rule: lines that differ from the changed ones in names and literals alone change alike.

What was replaced, inserted or deleted is carried over with the names and literals of the other
place: after `self.left = left` got a line `check(left)`, so does `self.right = right`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import (
    Block,
    count_tokens,
    indentation,
    reindented,
    whole_lines,
)
from fim_server.edits.rules.code_tokens import NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.inserted_lines import nearest
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import is_literal, pieces, skeleton

_MIN_TOKENS = 4
_MIN_PART = 3
"""Characters of a name that is replaced inside a longer one."""


def like_blocks(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The places like the old lines of a hunk of the page, or like those around its new ones."""
    if not page.has(hunk) or hunk.blank:
        return
    if hunk.old:
        yield from _changed(page, hunk)
    else:
        yield from _inserted(page, hunk)


def _changed(page: Page, hunk: Hunk) -> Iterator[Draft]:
    block = Block.of(hunk.old)
    tokens = count_tokens(hunk.old)
    if tokens < _MIN_TOKENS:
        return
    shapes = [skeleton(line.strip()) for line in hunk.old]
    kind = "deleted" if not hunk.new else "same" if len(hunk.old) == len(hunk.new) else "other"
    for number in page.by_skeleton.get(shapes[block.anchor], ()):
        first = number - block.anchor
        there = [page.line(at) for at in range(first, first + len(shapes))]
        if same_texts(hunk.old, there):
            continue  # the same lines: `identical_blocks`
        if any(skeleton(line.strip()) != shape for line, shape in zip(there, shapes, strict=True)):
            continue
        names = substitution(hunk.old, there) or {}
        if not _differ(names) or not _same_indents(hunk.old, there):
            continue
        new = reindented(carried(hunk.new, names), block.indent, Block.of(there).indent)
        if new == there:
            continue
        edits = whole_lines(page, first, first + len(shapes), new)
        likeness = equal_share(hunk.old, there)
        signs = Signs(kind, likeness, tokens, text=page.is_text(first, len(indentation(there[0]))))
        yield Draft(edits, "looks like lines that changed", signs, whole=True)


def _inserted(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The insertion where the line above it and the one below it have their like."""
    above, below = nearest(page, hunk.first - 1, -1), hunk.end
    if above is None or not any(line.strip() for line in hunk.new):
        return
    here = [page.line(above), page.line(below)]
    if count_tokens(here) < _MIN_TOKENS:
        return
    blank = hunk.first - 1 - above
    shapes = [skeleton(line.strip()) for line in here]
    for number in page.by_skeleton.get(shapes[0], ()):
        at = number + blank
        there = [page.line(number), page.line(at + 1)]
        if number == above or (blank and page.line(at).strip()):
            continue
        if skeleton(there[1].strip()) != shapes[1] or not _same_indents(here, there):
            continue
        names = substitution(here, there) or {}
        if not _differ(names):
            continue
        new = reindented(carried(hunk.new, names), indentation(here[0]), indentation(there[0]))
        if [line.strip() for line in new] == [
            page.line(at + 1 + n).strip() for n in range(len(new))
        ]:
            continue
        line = page.line(at)
        edit = LineEdit(at, len(line), len(line), "".join(f"\n{text}" for text in new))
        signs = Signs(
            "inserted",
            equal_share(here, there),
            count_tokens(here),
            text=page.is_text(number, len(indentation(there[0]))),
        )
        yield Draft((edit,), "looks like where lines were inserted", signs, whole=True)


def substitution(here: Sequence[str], there: Sequence[str]) -> dict[str, str] | None:
    """For each name and literal of some lines the one at its place in others of the same shape;
    None if one stands for several."""
    found: dict[str, str] = {}
    for a, b in zip(here, there, strict=True):
        for old, new in zip(_words(a), _words(b), strict=True):
            if found.setdefault(old, new) != new:
                return None
    return found


def carried(lines: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Lines with their names and literals replaced; parts of longer names as well."""
    differing = {old: new for old, new in names.items() if old != new}
    parts = {
        old: new
        for old, new in differing.items()
        if len(old) >= _MIN_PART and NAME.fullmatch(old) and NAME.fullmatch(new)
    }
    return ["".join(_carried(piece, names, parts) for piece in pieces(line)) for line in lines]


def _carried(piece: str, names: Mapping[str, str], parts: Mapping[str, str]) -> str:
    if piece in names:
        return names[piece]
    for old, new in parts.items():
        if old in piece:
            bordered = rf"(?<![^\W_]){re.escape(old)}(?![^\W_])"
            piece = re.sub(bordered, new, piece)
    return piece


def _differ(names: Mapping[str, str]) -> bool:
    """Whether any name differs; where none does, the lines are the same ones."""
    return any(old != new for old, new in names.items())


def equal_share(here: Sequence[str], there: Sequence[str]) -> float:
    """The share of tokens that are equal at the same place, 0 to 1."""
    pairs = [
        (a, b)
        for first, second in zip(here, there, strict=True)
        for a, b in zip(pieces(first.strip()), pieces(second.strip()), strict=False)
        if not a.isspace()
    ]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 0.0


@lru_cache(maxsize=1 << 12)
def _words(line: str) -> tuple[str, ...]:
    found = pieces(line.strip())
    return tuple(piece for piece in found if NAME.fullmatch(piece) or is_literal(piece))


def same_texts(here: Sequence[str], there: Sequence[str]) -> bool:
    """Whether lines are equal but for their indentation."""
    return all(a.strip() == b.strip() for a, b in zip(here, there, strict=True))


def _same_indents(here: Sequence[str], there: Sequence[str]) -> bool:
    """Whether lines are indented alike, relative to each other."""
    a, b = (
        [len(indentation(line)) - len(indentation(lines[0])) for line in lines if line.strip()]
        for lines in (here, there)
    )
    return a == b
