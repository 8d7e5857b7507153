"""Rule: what was done to a line is done to lines of its shape, word by word.

As `similar_lines`, but names and strings are merged by their words: after `warn_async` became
`error_async`, `warn_async_loop` becomes `error_async_loop`.
"""

from __future__ import annotations

from collections.abc import Iterator

from fim_server.documents.alignment import opcodes
from fim_server.edits.history import Hunk
from fim_server.edits.rules.code_tokens import similarity
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.token_diff import changed_pairs, merged, skeleton, words

_MIN_TOKENS = 3
_ALIKE = 0.4
"""Least Jaccard index of the words of the two lines."""


def like_words(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The lines of the shape of those that a hunk of the page changed."""
    if not page.has(hunk) or hunk.blank:
        return
    for number, before, after in changed_pairs(hunk):
        shape = skeleton(before.strip())
        if len(shape) < _MIN_TOKENS:
            continue
        old, new = frozenset(words(before)), frozenset(words(after))
        for other in page.by_skeleton.get(shape, ()):
            text = page.line(other)
            here = frozenset(words(text))
            alike = similarity(here, old)
            # Equal lines have other rules; one that is more like the new line has the change.
            if other == number or here == old or alike < _ALIKE or alike < similarity(here, new):
                continue
            if not _fits(before, after, here):
                continue
            made = merged(before, after, text, words)
            if made is None or made.strip() == after.strip() or made == merged(before, after, text):
                continue
            is_text = page.is_text(other, len(text) - len(text.lstrip()))
            kind = "same" if skeleton(after.strip()) == shape else ""
            signs = Signs(kind, alike, len(old), text=is_text)
            yield Draft((LineEdit(other, 0, len(text), made),), "looks like a changed line", signs)


def _fits(before: str, after: str, here: frozenset[str]) -> bool:
    """Whether a line has the words after which a change inserts others."""
    old, new = words(before), words(after)
    return all(
        old[low - 1] in here
        for tag, low, _, _, _ in opcodes(old, new)
        if tag == "insert" and low and old[low - 1].isalnum()
    )
