"""The backend of one client: whether it is ready, and whether its requests fail."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fim_server.backends.base import Backend, BackendError, Progress
from fim_server.completion.silence import Silence
from fim_server.log import where

logger = logging.getLogger(__name__)


class ActiveBackend:
    """A backend that can be replaced, with its state as users are told of it."""

    def __init__(self, backend: Backend, on_trouble: Callable[[str], None]) -> None:
        """`on_trouble` is given one line when requests begin to fail, and one when they work
        again; not one for every failure in between."""
        self.backend = backend
        self.not_ready: Silence | None = Silence.LOADING
        """Why the backend cannot be asked yet; None once it can."""
        self._on_trouble = on_trouble
        self._failing = False

    def replace(self, backend: Backend) -> Backend:
        """Take another backend, which `start` must make ready; returns the one to close."""
        old, self.backend = self.backend, backend
        self.not_ready = Silence.LOADING
        return old

    async def start(self, progress: Progress) -> None:
        """Make the backend ready. Raises BackendError."""
        backend = self.backend
        try:
            await backend.start(progress)
        except BackendError:
            self.not_ready = Silence.NO_MODEL
            raise
        except Exception as mistake:
            self.not_ready = Silence.NO_MODEL
            raise BackendError(f"the model could not be loaded ({where(mistake)})") from mistake
        if backend is self.backend:
            self.not_ready = None

    def failed(self, error: BackendError) -> None:
        """Note that a request failed; the client is told of the first failure in a row."""
        logger.info("%s", error)
        if not self._failing:
            self._on_trouble(str(error))
        self._failing = True

    def succeeded(self) -> None:
        """Note that a request was answered; the client is told if that ends the failures."""
        if self._failing:
            self._on_trouble("completions work again")
        self._failing = False
