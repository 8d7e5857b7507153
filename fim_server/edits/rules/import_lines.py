"""Import lines of Python and JavaScript, each read from one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from fim_server.documents.documents import without_end
from fim_server.edits.rules.code_tokens import NAME
from fim_server.edits.rules.page import MAX_LINE_CHARS, Page

_TOP = 200
"""Lines at the top of a document in which its imports are looked for."""

_FROM = re.compile(r"^(\s*)from\s+([\w.]+)\s+import(?:\s*\(([\w ,]+)\)|\s+([\w ,]+?))\s*(?:#.*)?$")
_PLAIN = re.compile(r"^(\s*)import\s+([\w.]+)(?:\s+as\s+(\w+))?\s*$")
_SCRIPT = re.compile(
    r"^(\s*)(?:import\s+(?:type\s+)?(?:(?:\*\s+as\s+)?(\w+)|\{([\w\s,]+)\})\s+from\s+(['\"][^'\"]+['\"])"
    r"|(?:const|let|var)\s+(?:(\w+)|\{([\w\s,]+)\})\s*=\s*require\((['\"][^'\"]+['\"])\))\s*;?\s*$"
)
_PART = re.compile(r"[^\s,][^,]*")
"""An entry of a list of names, with the white space after it."""


@dataclass(frozen=True, slots=True)
class ImportLine:
    """A line that imports names.

    names: what it binds. written: each name as it is written there (`a as b`). starts: the
    characters of the line at which they begin. alone: for each name, the line that imports only
    that one. module: where they come from, as written.
    """

    text: str
    names: tuple[str, ...]
    written: tuple[str, ...]
    starts: tuple[int, ...]
    alone: tuple[str, ...]
    module: str

    @property
    def is_list(self) -> bool:
        """Whether more names can be added to the line."""
        return self.text.lstrip().startswith("from") or "{" in self.text


def read_import(line: str) -> ImportLine | None:
    """The import on a line; None for other lines and for imports that span several."""
    if match := _PLAIN.match(line):
        name = match[3] or match[2].partition(".")[0]
        return ImportLine(line, (name,), (match[2],), (match.start(2),), (line.strip(),), match[2])
    if match := _FROM.match(line):
        span = match.span(3 if match[3] else 4)
        return _listed(line, span, f"from {match[2]} import ", "", match[2])
    if match := _SCRIPT.match(line):
        module = match[4] or match[7]
        if name := match[2] or match[5]:
            start = match.start(2 if match[2] else 5)
            return ImportLine(line, (name,), (name,), (start,), (line.strip(),), module)
        start, end = match.span(3 if match[3] else 6)
        return _listed(line, (start, end), f"{line[:start]} ", f" {line[end:]}", module)
    return None


def import_lines(lines: Iterable[str]) -> list[str]:
    """The import lines at the top of a document that `read_import` understands."""
    top = (without_end(line) for line in islice(lines, _TOP))
    return [line for line in top if len(line) <= MAX_LINE_CHARS and read_import(line)]


def top_level_imports(page: Page) -> list[tuple[int, str]]:
    """The numbers and texts of a page's unindented import lines."""
    return [
        (number, line)
        for number, line in page.lines.items()
        if not line[:1].isspace() and read_import(line) is not None
    ]


def _listed(
    line: str, span: tuple[int, int], before: str, after: str, module: str
) -> ImportLine | None:
    """The import of the names that a line lists at some characters. `before` and `after` are what
    a line with one of them has around it."""
    parts = list(_PART.finditer(line, *span))
    written = tuple(part[0].rstrip() for part in parts)
    names = tuple(NAME.findall(part)[-1] for part in written if NAME.search(part))
    if len(names) != len(parts):
        return None
    alone = tuple(f"{before}{part}{after}".strip() for part in written)
    return ImportLine(line, names, written, tuple(part.start() for part in parts), alone, module)
