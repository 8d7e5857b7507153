"""Which backend the settings ask for. Each is imported only when it is chosen."""

from __future__ import annotations

from fim_server.backends.base import Backend
from fim_server.settings import Settings


def backend_for(settings: Settings) -> Backend:
    """A backend that is not started yet."""
    if settings.backend == "in_process":
        from fim_server.backends.in_process import InProcessBackend

        return InProcessBackend(settings.model, settings.threads)
    from fim_server.backends.engine import EngineBackend

    return EngineBackend(settings.model, settings.threads, settings.engine_idle_minutes)
