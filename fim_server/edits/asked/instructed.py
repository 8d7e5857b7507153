"""Edits by instruction: selected lines as the model rewrites them, in hunks to accept or refuse.

Nothing is asked of a model that cannot follow instructions, and of a document that the model must
not see.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fim_model.requests import InstructionRequest, Rewrite
from lsprotocol import types as lsp

from fim_server.backends.base import Backend, BackendError, Unfit, Unsupported, assistant_of
from fim_server.completion.hole import hole_at
from fim_server.documents.alignment import differences
from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.next_edit import EditContext, Proposal

PREFIX_CHARS, SUFFIX_CHARS = 4000, 2000
"""Text sent from around the region; the backend cuts it to the model's window."""

MAX_LINES = 200
"""Lines that can be rewritten at once."""

RULE = "instruction"
"""The rule of such proposals: the user asked, so that nothing is judged."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_END_OF_LINE = 2**31 - 1


def lines_of(snapshot: Snapshot, span: lsp.Range) -> tuple[int, int]:
    """The lines `[first, end)` that a selection touches; the cursor's line for an empty one."""
    first, last = snapshot.place(span.start), snapshot.place(span.end)
    end = last.line + (last.index > 0 or last.line == first.line)
    return first.line, end


async def instructed(
    backend: Backend, context: EditContext, first: int, end: int, instruction: str
) -> list[Proposal]:
    """The hunks by which lines `[first, end)` become what the model makes of them, from the top
    down; none if it would leave them as they are.

    Raises Unsupported with the reason and the way out for a model that cannot follow instructions,
    Unfit for lines that it cannot read, and BackendError if it cannot serve.
    """
    assistant = assistant_of(backend)
    if refusal := await assistant.why_not_instruct():
        raise Unsupported(refusal)
    request = _request_for(context, first, end, instruction)
    rewrite = await assistant.instruct(request)
    if rewrite is None:
        raise BackendError("another request took this one's place; ask again")
    return hunks_of(context.snapshot, first, end, rewrite.new, instruction, rewrite)


def hunks_of(
    snapshot: Snapshot,
    first: int,
    end: int,
    text: str,
    reason: str,
    rewrite: Rewrite | None = None,
) -> list[Proposal]:
    """The proposals by which lines `[first, end)` become `text`, each by itself, from the top.

    An empty range of lines is where the text is inserted.
    """
    old = tuple(map(without_end, snapshot.lines[first:end]))
    new = tuple(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) if text else ()
    cost = rewrite or Rewrite(text, 0.0, 1.0, RULE, 0, 0, 0, 0.0)
    return [
        Proposal(
            snapshot, first + low, old[low:high], new[from_:to], 0.0, reason, cost, 0.0, rule=RULE
        )
        for low, high, from_, to in differences(old, new)
    ]


def applied(snapshot: Snapshot, hunks: Sequence[Proposal]) -> str:
    """The document's text with all hunks applied."""
    text = "".join(snapshot.lines)
    starts = [0]
    for line in snapshot.lines:
        starts.append(starts[-1] + len(line))
    for hunk in reversed(hunks):
        for change in reversed(hunk.changes):
            low = starts[change.start.line] + change.start.index
            high = starts[change.end.line] + change.end.index
            text = text[:low] + change.text + text[high:]
    return text


def _request_for(
    context: EditContext, first: int, end: int, instruction: str
) -> InstructionRequest:
    snapshot = context.snapshot
    if not 0 < end - first <= MAX_LINES:
        raise Unfit(f"{end - first} lines are selected; 1 to {MAX_LINES} can be rewritten at once")
    old = "\n".join(map(without_end, snapshot.lines[first:end]))
    if _LONE_SURROGATE.search(old):
        raise Unfit("the selected lines have half of a surrogate pair, which has no UTF-8")
    last = lsp.Position(end - 1, _END_OF_LINE)
    try:
        return InstructionRequest(
            instruction=instruction,
            prefix=hole_at(snapshot, lsp.Position(first, 0), PREFIX_CHARS, 0).before,
            old=old,
            suffix=hole_at(snapshot, last, 0, SUFFIX_CHARS).after,
            path=context.path,
            language=snapshot.language,
            session=snapshot.uri,
        )
    except ValueError as empty:
        raise Unfit(str(empty)) from None
