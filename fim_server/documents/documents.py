"""Open documents: text, lines and positions by LSP's rules, in all three position encodings.

Only `\\n`, `\\r\\n` and `\\r` end a line: form feed, NEL and U+2028 are ordinary characters. The
last line of a document has no line end (after a trailing line end it is empty). The text is stored
as `Lines`, so an edit costs only the lines it touches, whatever the size of the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lsprotocol import types as lsp

from fim_server.documents.lines import Lines, common_ends

# Possessive quantifiers avoid backtracking through a last line of a megabyte.
_LINES = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n)|[^\r\n]++\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UTF8_CONTINUATION = bytes(range(0x80, 0xC0))


UNVERSIONED = -(2**31)
"""The version of a change whose client names none: the document keeps its version."""


class Encoding(StrEnum):
    """The unit of `Position.character`: bytes, 16-bit code units, or code points."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


class SyncError(ValueError):
    """A change that cannot be applied; the message is one line."""


def split_lines(text: str) -> list[str]:
    """The lines of `text` with their line ends; the last line has none and may be empty."""
    lines = _LINES.findall(text)
    if not lines or lines[-1].endswith(("\r", "\n")):
        lines.append("")
    return lines


def without_end(line: str) -> str:
    """The line without its line end."""
    return line.rstrip("\r\n")


def units_to_index(content: str, units: int, encoding: Encoding) -> int:
    """Index of the character at `units` code units into a line, given without its line end.

    Offsets past the end are clamped to the end, offsets inside a character to its start.
    """
    return _index_at(content, units, encoding)[0]


def _index_at(content: str, units: int, encoding: Encoding) -> tuple[int, bool]:
    """The index as of `units_to_index`, and whether `units` is inside of that character."""
    if encoding is Encoding.UTF32 or content.isascii():
        return min(units, len(content)), False
    if encoding is Encoding.UTF8:
        data = content.encode("utf-8", "surrogatepass")
        starts = len(data[:units].translate(None, _UTF8_CONTINUATION))
        inside = units < len(data) and 0x80 <= data[units] < 0xC0
        return starts - inside, inside
    data = content.encode("utf-16-le", "surrogatepass")
    index = len(data[: 2 * units].decode("utf-16-le", "surrogatepass"))
    inside = 0 < 2 * units < len(data) and 0xDC <= data[2 * units + 1] < 0xE0
    paired = inside and 0xD8 <= data[2 * units - 1] < 0xDC
    return index - paired, paired


def index_to_units(content: str, index: int, encoding: Encoding) -> int:
    """Code units before the character at `index`; the inverse of `units_to_index`."""
    if encoding is Encoding.UTF32 or content.isascii():
        return min(index, len(content))
    head = content[:index]
    if encoding is Encoding.UTF8:
        return len(head.encode("utf-8", "surrogatepass"))
    return len(head.encode("utf-16-le", "surrogatepass")) // 2


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a snapshot: line number and character index in that line, both from 0."""

    line: int
    index: int


def locate(lines: Sequence[str], position: lsp.Position, encoding: Encoding) -> Place:
    """The place of an LSP position, clamped to the end of its line or of the document."""
    return _locate(lines, position, encoding)[0]


def _locate(lines: Sequence[str], position: lsp.Position, encoding: Encoding) -> tuple[Place, bool]:
    """The place of a position, and whether the position is inside of a character."""
    if position.line >= len(lines):
        return Place(len(lines) - 1, len(lines[-1])), False
    content = without_end(lines[position.line])
    index, inside = _index_at(content, position.character, encoding)
    return Place(position.line, index), inside


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable state of a document; taking a snapshot copies nothing.

    `version` is the client's. `revision` increases with every change to any document of this
    server, so the highest revision is the latest. `edited_line` is the line at which the last edit
    began, None before the first.
    """

    uri: str
    language: str
    version: int
    revision: int
    encoding: Encoding
    lines: Sequence[str]
    edited_line: int | None = None

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def place(self, position: lsp.Position) -> Place:
        """The place of a client's position in this document."""
        return locate(self.lines, position, self.encoding)

    def position(self, place: Place) -> lsp.Position:
        """A place as a client's position."""
        content = self.lines[place.line]
        return lsp.Position(place.line, index_to_units(content, place.index, self.encoding))

    def replacing(self, span: lsp.Range, text: str) -> tuple[Snapshot, lsp.Position]:
        """This document with `span` replaced by `text`, and the position after `text`.

        The position is counted from the document's unchanged end, because `text` may merge with
        the line before it.
        """
        end = max(self.place(span.start), self.place(span.end))
        lines = _spliced(Lines.of(self.lines), span, text, self.encoding)
        later = replace(self, lines=lines)
        line = len(lines) - (len(self.lines) - end.line)
        index = len(lines[line]) - (len(self.lines[end.line]) - end.index)
        return later, later.position(Place(line, max(index, 0)))

    def line_end(self, line: int) -> str:
        """The line end to use at `line`: its own, else the previous line's, else `\\n`."""
        for text in (self.lines[line], self.lines[line - 1] if line else ""):
            last = text[-2:]
            if end := last[len(without_end(last)) :]:
                return end
        return "\n"


class DocumentStore:
    """The open documents of one client, kept in sync by its notifications."""

    def __init__(self, encoding: Encoding = Encoding.UTF16) -> None:
        self._encoding = encoding
        self._documents: dict[str, Snapshot] = {}
        self._revisions = 0
        self._last_used: dict[str, int] = {}
        self._uses = 0
        # Documents that lost a change, with their languages: unknown until the whole text arrives.
        self._lost: dict[str, str] = {}

    def snapshot(self, uri: str) -> Snapshot | None:
        """The document's current state, without copying; None if it is not open."""
        return self._documents.get(uri)

    def others(self, uri: str) -> list[Snapshot]:
        """All other open documents, most recently opened, edited or focused first."""
        others = (document for document in self._documents.values() if document.uri != uri)
        return sorted(others, key=lambda document: -self._last_used[document.uri])

    def use(self, uri: str) -> None:
        """Mark the document as the most recently used; does nothing if it is not open."""
        if uri in self._documents:
            self._uses += 1
            self._last_used[uri] = self._uses

    def open(self, uri: str, language: str, version: int, text: str) -> None:
        version = 0 if version == UNVERSIONED else version
        self._put(uri, language, version, Lines(split_lines(_well_formed(text))))

    def close(self, uri: str) -> None:
        """Remove the document; does nothing if it is not open."""
        self._documents.pop(uri, None)
        self._last_used.pop(uri, None)
        self._lost.pop(uri, None)

    def lose(self, uri: str) -> None:
        """Forget the text of a document, because a change of it is lost.

        It is known again after a change of the whole text, or when it is opened again.
        """
        known = self._documents.get(uri)
        if known is not None:
            self.close(uri)
            self._lost[uri] = known.language

    def change(
        self, uri: str, version: int, changes: Sequence[lsp.TextDocumentContentChangeEvent]
    ) -> None:
        """Apply the changes of a notification, each to the result of the previous one.

        The order of arrival counts, not the version: a client that counts anew has not sent its
        messages in another order. Raises SyncError, without changing anything, for a document that
        is not open, or lost a change and does not get its whole text now.
        """
        now = self._documents.get(uri) or self._found_again(uri, changes)
        if now is None:
            raise SyncError("a change for a document that is not open is ignored")
        if version == UNVERSIONED:
            version = now.version
        lines = Lines.of(now.lines)
        edited_line = now.edited_line
        for change in changes:
            if isinstance(change, lsp.TextDocumentContentChangePartial):
                lines = _spliced(lines, change.range, change.text, self._encoding)
                edited_line = min(change.range.start.line, len(lines) - 1)
            else:
                lines = _rewritten(lines, split_lines(_well_formed(change.text)))
                edited_line = min(edited_line or 0, len(lines) - 1)
        self._put(uri, now.language, version, lines, edited_line)

    def _found_again(
        self, uri: str, changes: Sequence[lsp.TextDocumentContentChangeEvent]
    ) -> Snapshot | None:
        """A document that lost a change, empty, if the changes include its whole text."""
        whole = any(
            isinstance(item, lsp.TextDocumentContentChangeWholeDocument) for item in changes
        )
        if uri not in self._lost or not whole:
            return None
        return Snapshot(uri, self._lost[uri], 0, 0, self._encoding, [""])

    def _put(
        self,
        uri: str,
        language: str,
        version: int,
        lines: Lines,
        edited_line: int | None = None,
    ) -> None:
        self._revisions += 1
        self._lost.pop(uri, None)
        self._documents[uri] = Snapshot(
            uri, language, version, self._revisions, self._encoding, lines, edited_line
        )
        self.use(uri)


def _rewritten(lines: Lines, new: list[str]) -> Lines:
    """The lines of a whole new text, sharing the ends that did not change."""
    head, tail = common_ends(list(lines), new)
    return lines.spliced(head, len(lines) - tail, new[head : len(new) - tail])


def _spliced(lines: Lines, span: lsp.Range, text: str, encoding: Encoding) -> Lines:
    """The lines with `span` replaced by `text`; only those that may have changed are split anew."""
    if span.end < span.start:
        span = lsp.Range(span.end, span.start)
    (start, starts_inside) = (end, ends_inside) = _locate(lines, span.start, encoding)
    if span.end != span.start:
        end, ends_inside = _locate(lines, span.end, encoding)
    # An edit may cut a surrogate pair in two, until another one completes it again.
    high = _halves(lines, start)[0] if starts_inside and encoding is Encoding.UTF16 else ""
    low = _halves(lines, end)[1] if ends_inside and encoding is Encoding.UTF16 else ""
    if not high + low and (line := _line_after(lines, start, end, text)) is not None:
        return lines.spliced(start.line, start.line + 1, [line])
    first, last = start.line, end.line
    head, tail = lines[first][: start.index], lines[last][end.index + len(low) :]
    text = head + high + text + low + tail
    if first and lines[first - 1].endswith("\r"):
        # A new "\n" at the start of this line would join the "\r" before it into one line end.
        first -= 1
        text = lines[first] + text
    renewed = split_lines(_well_formed(text))
    if last + 1 < len(lines):
        # The text ends with the last line's own line end; the empty rest belongs to the next line.
        renewed.pop()
    return lines.spliced(first, last + 1, renewed)


def _halves(lines: Sequence[str], place: Place) -> tuple[str, str]:
    """Both halves of the surrogate pair that UTF-16 makes of the character at a place."""
    high, low = divmod(ord(lines[place.line][place.index]) - 0x10000, 0x400)
    return chr(0xD800 + high), chr(0xDC00 + low)


def _line_after(lines: Sequence[str], start: Place, end: Place, text: str) -> str | None:
    """The new text of the edited line if the edit stays within it; None otherwise.

    The fast path for most keystrokes: only the characters at the seams are inspected.
    """
    if start.line != end.line or "\n" in text or "\r" in text:
        return None
    if start.line and lines[start.line - 1].endswith("\r"):
        return None
    line = lines[start.line]
    seams = line[max(start.index - 1, 0) : start.index] + text + line[end.index : end.index + 1]
    if _SURROGATE.search(seams):
        return None
    return line[: start.index] + text + line[end.index :]


def _well_formed(text: str) -> str:
    """The text with surrogate pairs that arrived in two pieces joined into one character."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
