"""What the rest of the file and other files add to a request: snippets to show, copies to judge."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from fim_model.copies import Copied, copies
from fim_model.requests import CompletionRequest, Snippet

from fim_server.access.workspace import Workspace
from fim_server.completion.evidence import NAME_CHARS, Surroundings
from fim_server.completion.hole import Hole, text_after, text_before
from fim_server.completion.trim import repeats_next_lines, repeats_previous_lines
from fim_server.context.gather import Context, ContextQuery, Gatherer
from fim_server.documents.documents import DocumentStore, Snapshot
from fim_server.documents.notebooks import NotebookStore
from fim_server.settings.settings import Settings

NO_CONTEXT = Context()

_COPY_CHARS = 100_000
"""Characters on each side of the cursor that are searched for text to copy."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A request with its context, and the text around its hole, to judge the answers by."""

    request: CompletionRequest
    around: Surroundings


class ContextReader:
    """Reads what the open documents and the workspace's files offer to requests.

    Files may be read, so the work is done in a thread of its own.
    """

    def __init__(self, documents: DocumentStore, notebooks: NotebookStore) -> None:
        self._documents, self._notebooks = documents, notebooks
        self._gatherer = Gatherer()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fim-context")

    async def read(
        self,
        request: CompletionRequest,
        hole: Hole,
        snapshot: Snapshot,
        settings: Settings,
        workspace: Workspace,
    ) -> Reading:
        """The request for a hole in `snapshot` with its context, and the text around the hole."""
        cells = self._notebooks.cells(snapshot.uri)
        others = self._documents.others(snapshot.uri)
        query = ContextQuery(
            document=snapshot,
            place=hole.place,
            others=[other for other in others if other.uri not in cells],
            workspace=workspace,
            max_snippets=settings.snippets,
            max_chars=settings.snippet_chars,
            copies=settings.copies_from == "project",
        )

        def read() -> Reading:
            context = self._gatherer.context(query)
            added = in_context(request, hole, snapshot, context)
            return Reading(added, surroundings(hole, snapshot, context))

        return await asyncio.get_running_loop().run_in_executor(self._thread, read)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def in_context(
    request: CompletionRequest, hole: Hole, snapshot: Snapshot, context: Context = NO_CONTEXT
) -> CompletionRequest:
    """The request for a hole with the snippets and the copies of its context."""
    return replace(
        request,
        snippets=tuple(Snippet(path, text) for path, text in context.snippets),
        copies=_copies(hole, snapshot, context) if request.max_lines == 1 else (),
    )


def surroundings(hole: Hole, snapshot: Snapshot, context: Context = NO_CONTEXT) -> Surroundings:
    """The text around a hole, and the texts that its context has."""
    return Surroundings(
        before=text_before(snapshot, hole.place, NAME_CHARS),
        after=text_after(snapshot, hole.place, NAME_CHARS),
        language=snapshot.language,
        path=snapshot.uri,
        others=(*context.texts, *(text for _, text in context.snippets)),
    )


def _copies(hole: Hole, snapshot: Snapshot, context: Context) -> tuple[Copied, ...]:
    """What followed the text before the hole elsewhere: in the file, far beyond the prompt's
    window, and in the context's texts.

    Without copies that would not be shown, because they repeat the lines around the hole.
    """
    before = text_before(snapshot, hole.place, _COPY_CHARS)
    after = text_after(snapshot, hole.place, _COPY_CHARS)
    found = copies(before, after, context.texts)
    return tuple(copied for copied in found if not _repeats_surroundings(copied.text, hole))


def _repeats_surroundings(text: str, hole: Hole) -> bool:
    head, _, line_before = hole.before.rpartition("\n")
    line_after, _, following = hole.after.partition("\n")
    completed = line_before + text + line_after
    return repeats_next_lines(completed, following) or repeats_previous_lines(completed, head)
