"""Has the model judge the regions of a search, as long as that can change what is shown."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fim_model.requests import Rewrite, RewriteRequest

from fim_server.backends.base import Backend, BackendError, Unsupported
from fim_server.edits.next_edit import Gate, unjudged

logger = logging.getLogger(__name__)


class DraftJudge:
    """Asks the backend about drafts until it is known to add nothing to the rules' score.

    That is so where the backend cannot rewrite (a remote server), and where the checkpoint's
    priors, which come with each answer, leave all to the score. From then on drafts are answered
    at once, as unjudged. Belongs to one event loop.
    """

    def __init__(self, backend: Callable[[], Backend | None], gate: Callable[[], Gate]) -> None:
        """`backend` returns None until there is one that can be asked."""
        self._backend, self._gate = backend, gate
        self._indifferent: Backend | None = None

    def reset(self) -> None:
        """Ask again, since the gate may be another one."""
        self._indifferent = None

    async def ask(self, request: RewriteRequest) -> Rewrite | None:
        """What the model says about a region; None if a completion took its place. Raises
        BackendError."""
        backend = self._backend()
        if backend is None:
            raise BackendError("the model is not ready")
        if backend is self._indifferent:
            return unjudged(request)
        try:
            rewrite = await backend.rewrite(request)
        except Unsupported as unable:
            logger.info("the rules alone suggest edits: %s", unable)
            self._indifferent = backend
            return unjudged(request)
        if rewrite is not None and not self._gate().heeds(rewrite):
            self._indifferent = backend
        return rewrite
