"""Rule: the import of a name whose last use was removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import NAME
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.import_lines import ImportLine, read_import, top_level_imports
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import tokens_removed
from fim_server.syntax.occurrences import Role


def needless_imports(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """Deletions of imported names that a hunk removed and that are not used any more; with them
    go the other unused names of the same line. `a as a` stays: it says that the module exports a.
    """
    gone = {name for name in tokens_removed(hunk) if NAME.fullmatch(name)}
    if not gone:
        return
    for number, line in top_level_imports(page):
        found = None if number in page.edited_lines else read_import(line)
        if found is None or not gone & {*found.names}:
            continue
        unused = [
            at
            for at, (name, written) in enumerate(zip(found.names, found.written, strict=True))
            if written.split() != [name, "as", name] and _is_unused(page, name, number)
        ]
        if not gone & {found.names[at] for at in unused}:
            continue
        names = ", ".join(found.names[at] for at in unused)
        if len(unused) == len(found.names):
            edits = [LineEdit(number, 0, len(line), "", drops=True)]
        else:
            edits = [LineEdit(number, *span, "") for span in _spans(found, unused)]
        signs = Signs("all" if len(unused) == len(found.names) else "")
        yield Draft(tuple(edits), f"{names} is no longer used", signs, whole=True)


def _is_unused(page: Page, name: str, number: int) -> bool:
    """Whether a name that a line imports is used nowhere else in the document; False where it is
    not known."""
    others = (place for place in page.occurrences(name) if place.line != number)
    used = any(place.role is not Role.TEXT or place.quoted for place in others)
    return not used and page.has_read(name)


def _spans(line: ImportLine, unused: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The characters of the entries of a list that go, with their commas; some entries stay."""
    starts = line.starts
    ends = [start + len(text) for start, text in zip(starts, line.written, strict=True)]
    for at in unused:
        if any(later not in unused for later in range(at + 1, len(starts))):
            yield starts[at], starts[at + 1]
        else:  # nothing that stays is below, so the comma above goes too
            yield ends[at - 1], ends[at]
