"""Rule: the same old lines become the same new lines, at any indentation; or are deleted."""

from __future__ import annotations

from collections.abc import Iterator

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import Block, context_lines, count_tokens, whole_lines
from fim_server.edits.rules.drafts import Draft, Signs
from fim_server.edits.rules.page import Page


def identical_blocks(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The other places where the old lines of a hunk of the page stand."""
    if not hunk.old or not page.has(hunk) or hunk.blank:
        return
    old = Block.of(hunk.old)
    tokens = count_tokens(hunk.old)
    if not tokens:
        return
    kind = "changed" if hunk.new else "deleted"
    for first in old.places(page):
        indent = old.indent_at(page, first)
        new = old.reindented(hunk.new, indent)
        edits = whole_lines(page, first, first + len(hunk.old), new)
        context = context_lines(page, hunk, first, len(hunk.old))
        text = page.is_text(first, len(indent))
        signs = Signs(kind, tokens=tokens, context=context, text=text)
        yield Draft(edits, "same lines as those that changed", signs, whole=True)
