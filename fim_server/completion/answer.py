"""The answer to one inline completion request: items, or the reason why there are none."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from fim_model.requests import CompletionStats
from lsprotocol import types as lsp

from fim_server.completion.hole import Hole, end_over
from fim_server.completion.right_side import Fit
from fim_server.completion.selected import Target
from fim_server.completion.silence import Silence
from fim_server.documents.documents import Snapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to show; `silence` says why nothing, and is None exactly if there are items.

    `cached` answers took no model call and have no stats. `detail` is the rule behind a silence,
    where there is one; it never holds the user's text. `about` does: it is for the user's eyes.
    """

    items: list[lsp.InlineCompletionItem]
    silence: Silence | None = None
    stats: CompletionStats | None = None
    cached: bool = False
    detail: str = ""
    about: str = ""


def silent(reason: Silence, detail: str = "") -> Answer:
    """The empty answer with this reason."""
    return Answer([], reason, detail=detail)


def items_for(
    target: Target, fits: Iterable[Fit], snapshot: Snapshot, hole: Hole
) -> list[lsp.InlineCompletionItem]:
    """Fitted texts as items at `target`, with the document's line ends.

    The range is empty unless an item of the editor's list is continued, or the client shows items
    that replace the rest of the line: elsewhere in Neovim, a wider range hides text that stays.
    """
    return [
        lsp.InlineCompletionItem(
            insert_text=target.lead + fit.text.replace("\n", hole.line_end),
            range=_wider(target.span, snapshot, hole, fit.over) if fit.over else target.span,
        )
        for fit in fits
    ]


def _wider(span: lsp.Range, snapshot: Snapshot, hole: Hole, over: int) -> lsp.Range:
    """The range with the `over` characters right of the cursor."""
    width = end_over(snapshot, hole, over).character - hole.position.character
    return lsp.Range(span.start, lsp.Position(span.end.line, span.end.character + width))


def log_answer(answer: Answer, ms: float) -> None:
    """Write one debug line about an answer, without any of the user's text."""
    if answer.silence is not None:
        why = f"{answer.silence}: {answer.detail}" if answer.detail else str(answer.silence)
        known = ", known already" if answer.cached else ""
        logger.debug("inline completion: nothing (%s%s), %.1f ms", why, known, ms)
    elif answer.stats is None:
        logger.debug("inline completion: %d items, %.1f ms", len(answer.items), ms)
    else:
        logger.debug(
            "inline completion: %d items, %.1f ms (%s, %d forwards, %d tokens)",
            len(answer.items),
            ms,
            answer.stats.mode,
            answer.stats.forwards,
            answer.stats.tokens,
        )
