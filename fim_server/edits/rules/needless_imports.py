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
    """Deletions of imported names that a hunk removed and that are not used any more; with them
    go the other unused names of the same line."""
    gone = {name for name in tokens_removed(hunk) if NAME.fullmatch(name)}
    if not gone:
        return
    for number, line in top_level_imports(page):
        found = None if number in page.edited_lines else read_import(line)
        if found is None or not gone & {*found.names}:
            continue
        unused = [at for at, name in enumerate(found.names) if not _is_used(page, name, number)]
        if not gone & {found.names[at] for at in unused}:
            continue
        names = ", ".join(found.names[at] for at in unused)
        if len(unused) == len(found.names):
            edits = [LineEdit(number, 0, len(line), "", drops=True)]
        else:
            edits = [_without(line, found.written, at, number) for at in unused]
        signs = Signs("all" if len(unused) == len(found.names) else "")
        yield Draft(tuple(edits), f"{names} is no longer used", signs, whole=True)


def _is_used(page: Page, name: str, number: int) -> bool:
    places = page.occurrences(name)
    return any(place.line != number and place.role is not Role.TEXT for place in places)


def _without(line: str, written: Sequence[str], at: int, number: int) -> LineEdit:
    """The deletion of one name of a list with its comma."""
    spans, start = [], 0
    for text in written:
        start = line.index(text, start)
        spans.append((start, start + len(text)))
        start += len(text)
    if at + 1 < len(spans):
        return LineEdit(number, spans[at][0], spans[at + 1][0], "")
    return LineEdit(number, spans[at - 1][1], spans[at][1], "")
