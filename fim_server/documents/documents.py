"""Open documents: their text, lines and positions by LSP's rules, in all three encodings.

A line ends with `\\n`, `\\r\\n` or `\\r` and nothing else: form feed, NEL and U+2028 are ordinary
characters. The last line of a document has no line end (it is empty after a trailing one). The text
is kept as its list of lines, so that an edit touches the edited lines only, however large the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lsprotocol import types as lsp

# Possessive, lest a last line of a megabyte be gone through backwards in search of its end.
_LINES = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n)|[^\r\n]++\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UTF8_CONTINUATION = bytes(range(0x80, 0xC0))


class Encoding(StrEnum):
    """What `Position.character` counts: bytes, 16-bit units, or code points."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


class SyncError(ValueError):
    """A change that cannot be applied; one line that says why."""


def split_lines(text: str) -> list[str]:
    """The lines of `text` with their ends; the last one has none and may be empty."""
    lines = _LINES.findall(text)
    if not lines or lines[-1].endswith(("\r", "\n")):
        lines.append("")
    return lines


def without_end(line: str) -> str:
    """The line up to its line end, where its last position lies."""
    return line.rstrip("\r\n")


def units_to_index(content: str, units: int, encoding: Encoding) -> int:
    """Index of the character at `units` code units into a line, given without its end.

    Past the end is the end; inside a character is its start.
    """
    if encoding is Encoding.UTF32 or content.isascii():
        return min(units, len(content))
    if encoding is Encoding.UTF8:
        data = content.encode("utf-8", "surrogatepass")
        starts = len(data[:units].translate(None, _UTF8_CONTINUATION))
        inside = units < len(data) and 0x80 <= data[units] < 0xC0
        return starts - inside
    data = content.encode("utf-16-le", "surrogatepass")
    index = len(data[: 2 * units].decode("utf-16-le", "surrogatepass"))
    inside = 0 < 2 * units < len(data) and 0xDC <= data[2 * units + 1] < 0xE0
    paired = inside and 0xD8 <= data[2 * units - 1] < 0xDC
    return index - paired


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
    """A spot in a snapshot: line number and index of the character in that line."""

    line: int
    index: int


def locate(lines: Sequence[str], position: lsp.Position, encoding: Encoding) -> Place:
    """The spot `position` means; past the end of a line or of the document is that end."""
    if position.line >= len(lines):
        return Place(len(lines) - 1, len(lines[-1]))
    content = without_end(lines[position.line])
    return Place(position.line, units_to_index(content, position.character, encoding))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document as it was at one moment; taking it copies nothing, and no edit changes it.

    `version` is the client's number, `revision` counts the changes this server has applied to any
    document: the greatest is the latest. `edited_line` is where the last edit began, None before
    the first.
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
        """The spot a client's position means in this document."""
        return locate(self.lines, position, self.encoding)

    def position(self, place: Place) -> lsp.Position:
        """The client's name for a spot."""
        content = self.lines[place.line]
        return lsp.Position(place.line, index_to_units(content, place.index, self.encoding))

    def replacing(self, span: lsp.Range, text: str) -> tuple[Snapshot, lsp.Position]:
        """This document with `text` in the place of `span`, and the position behind it.

        Found from the end, which stays: `text` may join with the line before it.
        """
        lines, behind = list(self.lines), max(self.place(span.start), self.place(span.end))
        _splice(lines, span, text, self.encoding)
        later = replace(self, lines=lines)
        line = len(lines) - (len(self.lines) - behind.line)
        index = len(lines[line]) - (len(self.lines[behind.line]) - behind.index)
        return later, later.position(Place(line, max(index, 0)))

    def line_end(self, line: int) -> str:
        """The line end in use around `line`: its own, the one before it, or `\\n`."""
        for text in (self.lines[line], self.lines[line - 1] if line else ""):
            last = text[-2:]
            if end := last[len(without_end(last)) :]:
                return end
        return "\n"


class DocumentStore:
    """The open documents of one client, kept in step by its notifications."""

    def __init__(self, encoding: Encoding = Encoding.UTF16) -> None:
        self._encoding = encoding
        self._documents: dict[str, Snapshot] = {}
        self._revisions = 0
        self._last_used: dict[str, int] = {}
        self._uses = 0

    def snapshot(self, uri: str) -> Snapshot | None:
        """The document now; None if it is not open. Costs nothing, whatever its size."""
        return self._documents.get(uri)

    def others(self, uri: str) -> list[Snapshot]:
        """All open documents but this one, the last opened, edited or looked at first."""
        others = (one for one in self._documents.values() if one.uri != uri)
        return sorted(others, key=lambda one: -self._last_used[one.uri])

    def use(self, uri: str) -> None:
        """The user looks at the document; one that is not open is no error."""
        if uri in self._documents:
            self._uses += 1
            self._last_used[uri] = self._uses

    def open(self, uri: str, language: str, version: int, text: str) -> None:
        self._put(uri, language, version, split_lines(_well_formed(text)))

    def close(self, uri: str) -> None:
        """Forget the document; one that is not open is no error."""
        self._documents.pop(uri, None)
        self._last_used.pop(uri, None)

    def change(
        self, uri: str, version: int, changes: Sequence[lsp.TextDocumentContentChangeEvent]
    ) -> None:
        """Apply one notification's changes, each to the result of the one before.

        Raises SyncError, and changes nothing, for a document that is not open and for a version
        older than the one at hand. (An equal version is applied: some clients never count.)
        """
        now = self._documents.get(uri)
        if now is None:
            raise SyncError("a change for a document that is not open is ignored")
        if version < now.version:
            raise SyncError(f"version {version} arrived after {now.version} and is ignored")
        lines = list(now.lines)
        edited_line = now.edited_line
        for change in changes:
            if isinstance(change, lsp.TextDocumentContentChangePartial):
                _splice(lines, change.range, change.text, self._encoding)
                edited_line = min(change.range.start.line, len(lines) - 1)
            else:
                lines = split_lines(_well_formed(change.text))
                edited_line = min(edited_line or 0, len(lines) - 1)
        self._put(uri, now.language, version, lines, edited_line)

    def _put(
        self,
        uri: str,
        language: str,
        version: int,
        lines: list[str],
        edited_line: int | None = None,
    ) -> None:
        self._revisions += 1
        self._documents[uri] = Snapshot(
            uri, language, version, self._revisions, self._encoding, lines, edited_line
        )
        self.use(uri)


def _splice(lines: list[str], span: lsp.Range, text: str, encoding: Encoding) -> None:
    """Replace `span` by `text` in place, splitting anew only the lines that can have changed."""
    start = end = locate(lines, span.start, encoding)
    if span.end != span.start:
        end = locate(lines, span.end, encoding)
    if end < start:
        start, end = end, start
    if (line := _line_after(lines, start, end, text)) is not None:
        lines[start.line] = line
        return
    first, last = start.line, end.line
    text = lines[first][: start.index] + text + lines[last][end.index :]
    if first and lines[first - 1].endswith("\r"):
        # A new "\n" at the start of this line would end the line before, as "\r\n".
        first -= 1
        text = lines[first] + text
    renewed = split_lines(_well_formed(text))
    if last + 1 < len(lines):
        # The text ends with the last line's own end: what follows that is the next line, untouched.
        renewed.pop()
    lines[first : last + 1] = renewed


def _line_after(lines: Sequence[str], start: Place, end: Place, text: str) -> str | None:
    """The one line that the edit changes, if it is one and lines begin and end where they did;
    nothing of the line is looked at but the seams. Most keystrokes are of this kind."""
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
    """Join surrogate pairs that arrived in two pieces, so that a character is one character."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
