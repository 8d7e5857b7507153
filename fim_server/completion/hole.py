"""From a document and a cursor to the hole the model is asked to fill.

The window around the cursor is cut at line starts, out of the document's lines: a 5 MB file costs
no more than a small one. What the model sees has `\\n` line ends only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lsprotocol import types as lsp

from fim_server.backends.base import CompletionRequest
from fim_server.documents.documents import Place, Snapshot, without_end
from fim_server.settings.settings import Settings
from fim_server.syntax.definitions import CursorContext, cursor_context
from fim_server.syntax.languages import language_of

WINDOW_STRIDE = 8
"""The window begins at a line number that divides by this (see `text_before`)."""

_SYNTAX_CHARS = 4000
"""How much text on each side of the cursor its syntax is judged by."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Hole:
    """The text on both sides of the cursor, and what is needed to put an answer in between.

    `position` is the cursor as the client names it, moved to the nearest place that exists, and
    `place` where that is in the document; `line_end` is its own, which the answer must use.
    """

    before: str
    after: str
    position: lsp.Position
    line_end: str
    place: Place

    @property
    def inside_line(self) -> bool:
        """Whether there is more than blank space right of the cursor, on its line."""
        return bool(self.after.partition("\n")[0].strip())


def hole_at(
    snapshot: Snapshot, position: lsp.Position, prefix_chars: int, suffix_chars: int
) -> Hole:
    """The hole at a position, seen through a window of so many characters on each side."""
    place = snapshot.place(position)
    return _hole(snapshot, place, prefix_chars, text_after(snapshot, place, suffix_chars))


def budgeted_hole(snapshot: Snapshot, position: lsp.Position, settings: Settings) -> Hole:
    """The hole at a position within the characters that prefix and suffix share.

    What the suffix leaves of its share is the prefix's. Not the reverse: in the prompt it stands
    first, so its length must not change with what is typed. In tokens, snippets share as well.
    """
    place = snapshot.place(position)
    after = text_after(snapshot, place, settings.suffix_chars)
    free = settings.suffix_chars - len(after)
    return _hole(snapshot, place, settings.prefix_chars + free, after)


def _hole(snapshot: Snapshot, place: Place, prefix_chars: int, after: str) -> Hole:
    return Hole(
        before=text_before(snapshot, place, prefix_chars),
        after=after,
        position=snapshot.position(place),
        line_end=snapshot.line_end(place.line),
        place=place,
    )


def hole_after_accepting(
    snapshot: Snapshot, hole: Hole, text: str, settings: Settings
) -> tuple[Snapshot, Hole]:
    """The document, and the hole behind `text`, as they will be if `text` is accepted at `hole`."""
    inserted = text.replace("\n", hole.line_end)
    here = lsp.Range(hole.position, hole.position)
    later, cursor = snapshot.replacing(here, inserted)
    return later, budgeted_hole(later, cursor, settings)


def request_for(
    hole: Hole,
    snapshot: Snapshot,
    settings: Settings,
    alternatives: int,
) -> CompletionRequest:
    """What the backend is asked, without what the context adds (`in_context`)."""
    return CompletionRequest(
        prefix=hole.before,
        suffix=hole.after,
        path=_path(snapshot.uri),
        language=snapshot.language,
        mode=settings.mode,
        alternatives=alternatives,
        max_tokens=settings.max_tokens,
        max_lines=lines_to_ask_for(hole, snapshot.language, settings),
        session=snapshot.uri,
    )


def lines_to_ask_for(hole: Hole, language: str, settings: Settings) -> int:
    """How many lines may be missing: one between two pieces of a line, and by the syntax there."""
    if hole.inside_line or settings.multiline == "never":
        return 1
    if settings.multiline == "always":
        return settings.max_lines
    before = hole.before[-_SYNTAX_CHARS:]
    if len(before) < len(hole.before):
        before = before.partition("\n")[2]
    context = cursor_context(before, hole.after[:_SYNTAX_CHARS], language_of(language))
    return 1 if context in (CursorContext.STATEMENT, CursorContext.TEXT) else settings.max_lines


def text_before(snapshot: Snapshot, place: Place, limit: int) -> str:
    """At most `limit` characters left of the cursor, plain, from a line start.

    The start is rounded up to a multiple of WINDOW_STRIDE lines (in a very long line: of a quarter
    of the limit), so that it stays put while the user types: a start that moved with every
    character would make every cached token behind it useless.
    """
    lines = snapshot.lines
    if place.index > limit:
        start = _round_up(place.index - limit, max(limit // 4, 1))
        return _plain(lines[place.line][start : place.index])
    head = lines[place.line][: place.index]
    first, room = place.line, limit - len(head)
    while first and len(lines[first - 1]) <= room:
        first -= 1
        room -= len(lines[first])
    rounded = min(_round_up(first, WINDOW_STRIDE), place.line)
    if sum(map(len, lines[first:rounded])) <= limit // 2:
        first = rounded
    return _plain("".join(lines[first : place.line]) + head)


def text_after(snapshot: Snapshot, place: Place, limit: int) -> str:
    """At most `limit` characters right of the cursor, plain: whole lines where they fit."""
    lines = snapshot.lines
    line, end = lines[place.line], place.index + limit
    if len(line) > end:
        return _plain(without_end(line[place.index : end]))
    tail = line[place.index :]
    last, room = place.line + 1, limit - len(tail)
    while last < len(lines) and len(lines[last]) <= room:
        room -= len(lines[last])
        last += 1
    return _plain(tail + "".join(lines[place.line + 1 : last]))


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _plain(text: str) -> str:
    """One kind of line end, and no half characters, which no tokenizer can encode."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _LONE_SURROGATE.sub("\ufffd", text)


def _path(uri: str) -> str:
    """The file's path; "" for a document that is no file."""
    try:
        path = unquote(urlsplit(uri).path)
    except ValueError:
        return ""
    return _plain(path) if "/" in path else ""
