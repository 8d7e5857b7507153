"""The part of a document that edits may concern: its lines around the cursor, and their syntax."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk
from fim_server.syntax.definitions import Definition, definitions, parsed, scope_around
from fim_server.syntax.languages import Language
from fim_server.syntax.occurrences import Occurrence, Role, occurrences
from fim_server.syntax.signatures import CallSite, ParsedText, Signature

if TYPE_CHECKING:
    from tree_sitter import Node

MOST_LINE_CHARS = 300
"""A longer line is generated or data, and more than the model rewrites at once."""

REACH = 1500
"""Lines on each side of the cursor that are looked at."""


_STARTS = re.compile(
    r"(?:(?:async|export|pub|static) )?(?:def|class|function|func|fn|struct|impl|@)"
)
_STARTS_WITHIN = REACH // 2


class Page:
    """Lines are numbered as in the document. `lines` are those worth reading, without ends."""

    def __init__(self, snapshot: Snapshot, cursor_line: int, language: Language | None) -> None:
        self.snapshot, self.cursor, self.language = snapshot, cursor_line, language
        self.first = _start(snapshot, max(cursor_line - REACH, 0))
        self._all = [without_end(one) for one in snapshot.lines[self.first : cursor_line + REACH]]
        self.lines = {
            number: line
            for number, line in enumerate(self._all, self.first)
            if line.strip() and len(line) <= MOST_LINE_CHARS
        }

    def occurrences(self, name: str) -> list[Occurrence]:
        """Where a name stands, in lines worth reading."""
        if not any(name in line for line in self.lines.values()):
            return []
        found = occurrences(name, self._all, self._root, self.language, self.first)
        return [one for one in found if one.line in self.lines]

    def definitions(self) -> list[Definition]:
        """Lines count from the first one of the page."""
        return [] if self.language is None else definitions(self._text, self.language)

    @property
    def has_syntax(self) -> bool:
        return self._root is not None

    def signature_at(self, line: int) -> Signature | None:
        """That of the function in whose signature a line is; its rows count from the page's first
        line."""
        return None if self._source is None else self._source.signature_at(line - self.first)

    def call_of(self, name: Occurrence) -> CallSite | None:
        """The call of a name; its rows count from the page's first line."""
        if self._source is None:
            return None
        return self._source.call_of(name.line - self.first, name.start, name.end)

    def before(self, hunk: Hunk) -> ParsedText | None:
        """The page as it was before one of its hunks; None without syntax."""
        low, high = (max(at - self.first, 0) for at in (hunk.first, hunk.end))
        lines = [*self._all[:low], *hunk.old, *self._all[high:]]
        root = None if self.language is None else parsed("\n".join(lines), self.language)
        return None if root is None else ParsedText(lines, root)

    def visible(self, name: str, place: Occurrence) -> bool:
        """Whether a name has a value where another one stands, as far as can be told."""
        for one in self.occurrences(name):
            has_value = one.role is Role.NAME and (one.binds or one.defines)
            around = one.function is None or one.function in place.functions
            if has_value and around and (one.line < place.line or one.function is None):
                return True
        return False

    def scope_around(self, line: int) -> tuple[int, int] | None:
        """The lines `[first, end)` of the definition that a line is in."""
        if self.language is None:
            return None
        scope = scope_around(self._text, self.language, line - self.first)
        return None if scope is None else (scope[0] + self.first, scope[1] + self.first)

    @cached_property
    def _text(self) -> str:
        return "\n".join(self._all)

    @cached_property
    def _source(self) -> ParsedText | None:
        return None if self._root is None else ParsedText(self._all, self._root)

    @cached_property
    def _root(self) -> Node | None:
        return None if self.language is None else parsed(self._text, self.language)


def _start(snapshot: Snapshot, line: int) -> int:
    """Where to begin reading: a text cut in the middle of a definition has no syntax."""
    near = range(line, min(line + _STARTS_WITHIN, len(snapshot.lines))) if line else ()
    return next((at for at in near if _STARTS.match(snapshot.lines[at])), line)
