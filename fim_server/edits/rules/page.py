"""What rules read: a document's lines around the cursor, their syntax and the recent hunks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import names
from fim_server.edits.rules.token_diff import changed_pairs, skeleton, swaps, token_change
from fim_server.syntax.definitions import parsed, scope_around
from fim_server.syntax.languages import Language
from fim_server.syntax.occurrences import Occurrence, Role, is_in_text, occurrences, whole_name
from fim_server.syntax.signatures import CallSite, ParsedText, Signature

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_LINE_CHARS = 300
"""Longer lines are skipped: they are generated or data, and too long to rewrite at once."""

REACH = 1500
"""Lines read on each side of the cursor."""

MAX_NAMED_LINES = 400
"""A name on more lines is a word of the file, and reading the syntax around each takes too long."""

_STARTS = re.compile(
    r"(?:(?:async|export|pub|static) )?(?:def|class|function|func|fn|struct|impl|@)"
)
_STARTS_WITHIN = REACH // 2


class Page:
    """Lines are numbered as in the document. `lines` are those worth reading, without ends."""

    def __init__(
        self,
        snapshot: Snapshot,
        cursor_line: int,
        language: Language | None,
        hunks: Sequence[Hunk] = (),
        neighbour_imports: Iterable[str] = (),
    ) -> None:
        """`hunks` are of any document, oldest first; `neighbour_imports` are import lines of other
        documents, read only if a rule needs them."""
        self.snapshot, self.cursor, self.language = snapshot, cursor_line, language
        self.hunks, self._neighbour_imports = hunks, neighbour_imports
        self._occurrences: dict[str, list[Occurrence]] = {}
        self._parsed_before: dict[Hunk, ParsedText | None] = {}
        self.first = _start(snapshot, max(cursor_line - REACH, 0))
        self._all = [without_end(line) for line in snapshot.lines[self.first : cursor_line + REACH]]
        self.lines = {
            number: line
            for number, line in enumerate(self._all, self.first)
            if line.strip() and len(line) <= MAX_LINE_CHARS
        }

    # What the user did.

    def has(self, hunk: Hunk) -> bool:
        """Whether a hunk is one of this document."""
        return hunk.uri == self.snapshot.uri

    @cached_property
    def own_hunks(self) -> list[Hunk]:
        """The hunks of this document, oldest first."""
        return [hunk for hunk in self.hunks if self.has(hunk)]

    @cached_property
    def edited_lines(self) -> frozenset[int]:
        """The lines that were just edited; a deletion counts as the line below it."""
        return frozenset(
            line
            for hunk in self.own_hunks
            for line in range(hunk.first, max(hunk.end, hunk.first + 1))
        )

    @cached_property
    def names_before(self) -> frozenset[str]:
        """The names that the page and the hunks' old lines had before the hunks."""
        kept = (line for number, line in self.lines.items() if number not in self.edited_lines)
        return names((*kept, *(line for hunk in self.hunks for line in hunk.old)))

    @cached_property
    def swap_counts(self) -> Counter[tuple[str, str]]:
        """How often the hunks swapped one name or literal (old) for another (new)."""
        pairs = (pair for hunk in self.hunks for pair in changed_pairs(hunk))
        return Counter((swap.old, swap.new) for pair in pairs for swap in swaps(pair))

    @cached_property
    def mechanical(self) -> float:
        """The share of the hunks whose tokens changed as in another hunk, 0 to 1."""
        changes = Counter(map(token_change, self.hunks))
        again = sum(count for change, count in changes.items() if count > 1)
        return again / len(self.hunks) if self.hunks else 0.0

    # What stands on the page, and around it.

    def line(self, number: int) -> str:
        """A line's text without its end; "" outside of the page."""
        at = number - self.first
        return self._all[at] if 0 <= at < len(self._all) else ""

    @cached_property
    def last(self) -> int:
        """The number of the line below the page."""
        return self.first + len(self._all)

    @cached_property
    def by_text(self) -> dict[str, list[int]]:
        """The numbers of the lines worth reading, by their text without indentation."""
        found: dict[str, list[int]] = {}
        for number, line in self.lines.items():
            found.setdefault(line.strip(), []).append(number)
        return found

    @cached_property
    def by_skeleton(self) -> dict[tuple[str, ...], list[int]]:
        """The same by what is left of a line without its names and literals."""
        found: dict[tuple[str, ...], list[int]] = {}
        for number, line in self.lines.items():
            found.setdefault(skeleton(line.strip()), []).append(number)
        return found

    @cached_property
    def scope_of_cursor(self) -> tuple[int, int] | None:
        """The lines of the definition in which the latest edit of the document is."""
        return self.scope_around(self.own_hunks[-1].first if self.own_hunks else self.cursor)

    def is_text(self, line: int, character: int) -> bool:
        """Whether a character stands in a string or comment, as far as the syntax tells."""
        return (
            self._root is not None
            and self.language is not None
            and is_in_text(self._root, line - self.first, character, self._all, self.language)
        )

    @cached_property
    def neighbour_imports(self) -> tuple[str, ...]:
        """Import lines of other documents."""
        return tuple(self._neighbour_imports)

    def occurrences(self, name: str) -> list[Occurrence]:
        """Where a name stands, in lines worth reading; nowhere if it stands in more than
        MAX_NAMED_LINES of them. `has_read` says whether that is all."""
        if name not in self._occurrences:
            lines = _count_named(name, self.lines.values())
            found = []
            if 0 < lines <= MAX_NAMED_LINES:
                found = occurrences(name, self._all, self._root, self.language, self.first)
            self._occurrences[name] = [place for place in found if place.line in self.lines]
        return self._occurrences[name]

    def has_read(self, name: str) -> bool:
        """Whether `occurrences` has all places of the document where a name stands: it stands in
        no line that is not worth reading or too far away, and not in too many."""
        lines = self.snapshot.lines
        skipped = [line for line in self._all if len(line) > MAX_LINE_CHARS]
        unread = chain(lines[: self.first], skipped, lines[self.last :])
        return (
            not _count_named(name, unread)
            and _count_named(name, self.lines.values()) <= MAX_NAMED_LINES
        )

    @property
    def has_syntax(self) -> bool:
        return self._root is not None

    def signature_at(self, line: int) -> Signature | None:
        """The signature that a line is part of; its rows count from the page's first line."""
        return None if self._source is None else self._source.signature_at(line - self.first)

    def call_of(self, name: Occurrence) -> CallSite | None:
        """The call of a name; its rows count from the page's first line."""
        if self._source is None:
            return None
        return self._source.call_of(name.line - self.first, name.start, name.end)

    def before(self, hunk: Hunk) -> ParsedText | None:
        """The page as it was before one of its hunks; None without syntax."""
        if hunk not in self._parsed_before:
            low, high = (max(at - self.first, 0) for at in (hunk.first, hunk.end))
            lines = [*self._all[:low], *hunk.old, *self._all[high:]]
            root = None if self.language is None else parsed("\n".join(lines), self.language)
            self._parsed_before[hunk] = None if root is None else ParsedText(lines, root)
        return self._parsed_before[hunk]

    def visible(self, name: str, place: Occurrence) -> bool:
        """Whether a name has a value at another name's place, as far as the syntax tells."""
        for found in self.occurrences(name):
            has_value = found.role is Role.NAME and (found.binds or found.defines)
            around = found.function is None or found.function in place.functions
            if has_value and around and (found.line < place.line or found.function is None):
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


def _count_named(name: str, lines: Iterable[str]) -> int:
    """The number of lines in which a name stands."""
    pattern = whole_name(name)
    return sum(name in line and pattern.search(line) is not None for line in lines)


def _start(snapshot: Snapshot, line: int) -> int:
    """The first line to read: a definition's start, since half a definition does not parse."""
    near = range(line, min(line + _STARTS_WITHIN, len(snapshot.lines))) if line else ()
    return next((at for at in near if _STARTS.match(snapshot.lines[at])), line)
