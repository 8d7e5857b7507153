"""What the rest of the file and other files add to a request: snippets to show, copies to judge."""

from __future__ import annotations

from dataclasses import replace

from fim_model.copies import Copied, copies
from fim_model.requests import CompletionRequest, Snippet

from fim_server.completion.hole import Hole, text_after, text_before
from fim_server.completion.trim import repeats_next_lines, repeats_previous_lines
from fim_server.context.gather import Context
from fim_server.documents.documents import Snapshot

NO_CONTEXT = Context()

_COPY_CHARS = 100_000
"""How much text on each side of the cursor is searched for what stood there before."""


def in_context(
    request: CompletionRequest, hole: Hole, snapshot: Snapshot, context: Context = NO_CONTEXT
) -> CompletionRequest:
    """The request for a hole with all that its context knows."""
    return replace(
        request,
        snippets=tuple(Snippet(path, text) for path, text in context.snippets),
        copies=_copies(hole, snapshot, context) if request.max_lines == 1 else (),
    )


def _copies(hole: Hole, snapshot: Snapshot, context: Context) -> tuple[Copied, ...]:
    """What the file, far beyond what the model is shown, and others have in the hole's place.

    Without what would not be shown since it stands right before or behind the hole.
    """
    before = text_before(snapshot, hole.place, _COPY_CHARS)
    after = text_after(snapshot, hole.place, _COPY_CHARS)
    found = copies(before, after, context.texts)
    return tuple(one for one in found if not _stands_here(one.text, hole))


def _stands_here(text: str, hole: Hole) -> bool:
    head, _, line_before = hole.before.rpartition("\n")
    line_after, _, following = hole.after.partition("\n")
    completed = line_before + text + line_after
    return repeats_next_lines(completed, following) or repeats_previous_lines(completed, head)
