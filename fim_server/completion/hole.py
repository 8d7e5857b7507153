"""The hole at a cursor of a document, and the request to fill it.

The window around the cursor is cut at line starts, so a 5 MB file costs no more than a small one.
The model sees `\\n` line ends only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from fim_model.requests import CompletionRequest
from lsprotocol import types as lsp

from fim_server.documents.documents import Place, Snapshot, without_end
from fim_server.documents.lines import downward, upward
from fim_server.settings.settings import Settings
from fim_server.syntax.brackets import balance
from fim_server.syntax.definitions import CursorContext, cursor_context, in_comment
from fim_server.syntax.languages import language_of

WINDOW_STRIDE = 8
"""The window begins at a line number that divides by this (see `text_before`)."""

PROSE_LANGUAGES = frozenset(
    [
        "markdown",
        "plaintext",
        "text",
        "latex",
        "tex",
        "restructuredtext",
        "rst",
        "asciidoc",
        "org",
        "mail",
        "git-commit",
        "gitcommit",
        "scminput",
        "help",
    ]
)
"""Language ids of VS Code and Neovim for documents that consist of sentences."""

_SYNTAX_CHARS = 4000
"""Characters on each side of the cursor that are parsed to judge its syntax."""

_BLOCK_START = re.compile(r"(?<![$#%\\])\{\Z")
"""Braces of a template or a format hold an expression."""

_BLOCK_CHARS = 1000
"""Characters of a line that are searched for the string that a brace is in."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Hole:
    """The text on both sides of the cursor, and where an answer is put in between.

    `position` is the cursor in the client's units, moved to the nearest position that exists;
    `place` is the same as line and character index. `line_end` is the document's, for the answer.
    `language` is the editor's identifier of the document's language.
    """

    before: str
    after: str
    position: lsp.Position
    line_end: str
    place: Place
    language: str = ""

    @property
    def inside_line(self) -> bool:
        """Whether the rest of the cursor's line is not blank."""
        return bool(self.after.partition("\n")[0].strip())

    @property
    def inside_block(self) -> bool:
        """Whether the cursor is in braces that may become a block of several lines: `{|}`."""
        rest = self.after.partition("\n")[0].strip()
        line = self.before.rpartition("\n")[2].rstrip()
        if not _BLOCK_START.search(line) or not rest.startswith("}"):
            return False
        return not {'"', "'", "`"} & set(balance(line[-_BLOCK_CHARS:], self.language))


def hole_at(
    snapshot: Snapshot, position: lsp.Position, prefix_chars: int, suffix_chars: int
) -> Hole:
    """The hole at a position, with at most this many characters before and after it."""
    place = snapshot.place(position)
    return _hole(snapshot, place, prefix_chars, text_after(snapshot, place, suffix_chars))


def budgeted_hole(snapshot: Snapshot, position: lsp.Position, settings: Settings) -> Hole:
    """The hole at a position, within the character budget of the settings.

    What the suffix leaves of its share goes to the prefix, not the reverse: the suffix stands first
    in the prompt, so its length must not change with what is typed.
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
        language=snapshot.language,
    )


def hole_after_accepting(
    snapshot: Snapshot, hole: Hole, text: str, settings: Settings, over: int = 0
) -> tuple[Snapshot, Hole]:
    """The document and the hole after `text` as they will be once `text` is accepted, which
    replaces the `over` characters right of the cursor."""
    inserted = text.replace("\n", hole.line_end)
    span = lsp.Range(hole.position, end_over(snapshot, hole, over))
    later, cursor = snapshot.replacing(span, inserted)
    return later, budgeted_hole(later, cursor, settings)


def end_over(snapshot: Snapshot, hole: Hole, over: int) -> lsp.Position:
    """The position `over` characters right of the cursor, on its line."""
    return snapshot.position(replace(hole.place, index=hole.place.index + over))


def request_for(
    hole: Hole,
    snapshot: Snapshot,
    settings: Settings,
    alternatives: int,
) -> CompletionRequest:
    """The request for a hole, without the context that `in_context` adds."""
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
    """Most lines of an answer: 1 inside a line, else by the setting and the cursor's syntax."""
    if (hole.inside_line and not hole.inside_block) or settings.multiline == "never":
        return 1
    if settings.multiline == "always":
        return settings.max_lines
    before = hole.before[-_SYNTAX_CHARS:]
    if len(before) < len(hole.before):
        before = before.partition("\n")[2]
    context = cursor_context(before, hole.after[:_SYNTAX_CHARS], language_of(language))
    return 1 if context in (CursorContext.STATEMENT, CursorContext.TEXT) else settings.max_lines


def is_prose(hole: Hole, language: str) -> bool:
    """Whether a person writes sentences at this hole: in a comment, or in a language of prose."""
    if language in PROSE_LANGUAGES:
        return True
    before = hole.before[-_SYNTAX_CHARS:]
    if len(before) < len(hole.before):
        before = before.partition("\n")[2]
    return in_comment(before, hole.after[:_SYNTAX_CHARS], language_of(language))


def text_before(snapshot: Snapshot, place: Place, limit: int) -> str:
    """At most `limit` characters left of the cursor, with plain line ends, from a line start.

    The start is rounded up to a multiple of WINDOW_STRIDE lines (in a very long line, of a quarter
    of `limit` characters), so that it stays put while the user types: a start that moved with every
    character would invalidate every cached token after it.
    """
    lines = snapshot.lines
    if place.index > limit:
        start = _round_up(place.index - limit, max(limit // 4, 1))
        return well_formed(lines[place.line][start : place.index])
    head = lines[place.line][: place.index]
    above, room = [], limit - len(head)
    for line in upward(lines, place.line):
        if len(line) > room:
            break
        above.append(line)
        room -= len(line)
    first = place.line - len(above)
    rounded = min(_round_up(first, WINDOW_STRIDE), place.line)
    kept = above[: place.line - rounded]
    if sum(map(len, above[len(kept) :])) <= limit // 2:
        above = kept
    return well_formed("".join(reversed(above)) + head)


def text_after(snapshot: Snapshot, place: Place, limit: int) -> str:
    """At most `limit` characters right of the cursor, with plain line ends: whole lines if they
    fit."""
    lines = snapshot.lines
    line, end = lines[place.line], place.index + limit
    if len(line) > end:
        return well_formed(without_end(line[place.index : end]))
    after = [line[place.index :]]
    room = limit - len(after[0])
    for below in downward(lines, place.line + 1):
        if len(below) > room:
            break
        after.append(below)
        room -= len(below)
    return well_formed("".join(after))


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def well_formed(text: str) -> str:
    """The text with `\\n` line ends, and without lone surrogates, which no tokenizer can encode."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _LONE_SURROGATE.sub("\ufffd", text)


def _path(uri: str) -> str:
    """The path of a file's URI; "" for a document that is not a file."""
    try:
        path = unquote(urlsplit(uri).path)
    except ValueError:
        return ""
    return well_formed(path) if "/" in path else ""
