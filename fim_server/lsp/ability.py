"""Whether the loaded model follows instructions, so that edits by instruction are offered."""

from __future__ import annotations

import asyncio

from fim_server.backends.base import Backend, BackendError, assistant_of

KNOWN_SECONDS = 0.3
"""How long a code action waits for the answer."""


class Ability:
    """Whether the current model follows instructions: asked once for each backend."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._asking: asyncio.Task[str | None] | None = None

    async def is_known(self, backend: Backend) -> bool:
        """Whether instructions can be offered; False as long as the model is being measured."""
        if backend is not self._backend or self._asking is None:
            self._backend = backend
            self._asking = asyncio.create_task(_refusal(backend))
        asking = self._asking
        await asyncio.wait([asking], timeout=KNOWN_SECONDS)
        if not asking.done():
            return False
        try:
            return asking.result() is None
        except BackendError:  # the engine was busy, or gone; the next action asks again
            self._asking = None
            return False


async def _refusal(backend: Backend) -> str | None:
    return await assistant_of(backend).why_not_instruct()
