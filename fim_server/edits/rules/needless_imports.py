"""Rule: the import of a name whose last use was removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import read_import, top_level_imports
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import tokens_removed
from fim_server.syntax.occurrences import Role


def needless_imports(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """Deletions of imported names that a hunk removed and that are not used any more."""
    gone = {name for name in tokens_removed(hunk) if NAME.fullmatch(name)}
    if not gone:
        return
    for number, line in top_level_imports(page):
        found = None if number in page.edited_lines else read_import(line)
        for at, name in enumerate(found.names if found else ()):
            if found is None or name not in gone:
                continue
            others = [place for place in page.occurrences(name) if place.line != number]
            if any(place.role is not Role.TEXT for place in others):
                continue
            start, end = _span(line, found.written, at)
            edit = LineEdit(number, start, end, "", drops=True)
            yield Draft((edit,), f"{name} is no longer used", Signs())


def _span(line: str, written: Sequence[str], at: int) -> tuple[int, int]:
    """The characters of one name of a list with its comma; the whole line for a single name."""
    if len(written) == 1:
        return 0, len(line)
    spans, start = [], 0
    for text in written:
        start = line.index(text, start)
        spans.append((start, start + len(text)))
        start += len(text)
    if at + 1 < len(spans):
        return spans[at][0], spans[at + 1][0]
    return spans[at - 1][1], spans[at][1]
