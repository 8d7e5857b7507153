"""Rule: what was done to a line is done to lines like it, as a three-way merge."""

from __future__ import annotations

from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import similarity, tokens
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import (
    ChangedLine,
    changed_pairs,
    merged,
    only_renames,
    same_shape,
)

_MIN_TOKENS = 4
_ALIKE = 0.5
"""Least Jaccard index of the tokens of a line with the same shape."""
_NEARLY_EQUAL = 0.8
"""The same for a line of any shape."""


def similar_lines(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The lines similar to the ones that a hunk of the page changed. Renames and signatures have
    their own rules."""
    if not page.has(hunk):
        return
    for line in changed_pairs(hunk):
        if not only_renames(line) and page.signature_at(line[0]) is None:
            yield from _merges(
                page, line, alone=len(hunk.old) == len(hunk.new) or len(hunk.old) > 1
            )


def _merges(page: Page, line: ChangedLine, *, alone: bool) -> Iterator[Draft]:
    """alone: equal lines change without what was written beside them; otherwise the rule
    `identical_blocks` changes them as a whole."""
    number, before, after = line
    old, new = tokens([before]), tokens([after])
    if len(old) < _MIN_TOKENS:
        return
    for other, text in page.lines.items():
        here = tokens([text])
        alike = similarity(here, old)
        # A line that is more like the new one has the change already.
        if other == number or alike < _ALIKE or alike <= similarity(here, new):
            continue
        if not alone and text.strip() == before.strip():
            continue
        made, kind = None, ""
        if alike >= _NEARLY_EQUAL or same_shape(before, text):
            made = merged(before, after, text)
        elif after.startswith(before):
            made, kind = text + after[len(before) :], "appended"
        if made is not None:
            edit = LineEdit(other, 0, len(text), made)
            is_text = page.is_text(other, len(text) - len(text.lstrip()))
            signs = Signs(kind, alike, len(old), text=is_text)
            yield Draft((edit,), "looks like a line that changed", signs)
