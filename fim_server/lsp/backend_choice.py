"""The backend that the settings select; only the selected one is imported."""

from __future__ import annotations

from fim_model.requests import Completion, CompletionRequest, Rewrite, RewriteRequest

from fim_server.access.tuned_workspaces import adapters_folder
from fim_server.backends.base import Backend, BackendError, Progress
from fim_server.log import where
from fim_server.settings.settings import Settings


def backend_for(settings: Settings) -> Backend:
    """The selected backend, not started; mistakes in the settings are reported when it starts."""
    try:
        return _selected(settings)
    except BackendError as problem:
        return NoBackend(str(problem))
    except Exception as mistake:
        return NoBackend(f"the backend {settings.backend!r} cannot be used ({where(mistake)})")


def _selected(settings: Settings) -> Backend:
    if settings.backend in ("openai", "llama_cpp"):
        return _remote(settings)
    if settings.backend == "in_process":
        from fim_server.backends.in_process import InProcessBackend

        return InProcessBackend(settings.model, settings.threads, adapters=adapters_folder())
    from fim_server.engine.client import EngineBackend

    return EngineBackend(settings.model, settings.threads, settings.engine_idle_minutes)


def _remote(settings: Settings) -> Backend:
    if settings.remote_url is None:
        raise BackendError(f"the backend {settings.backend!r} needs the setting 'remoteUrl'")
    if settings.backend == "llama_cpp":
        from fim_server.backends.llama_cpp import LlamaCppBackend

        return LlamaCppBackend(settings.remote_url)
    from fim_server.backends.openai import OpenAIBackend

    return OpenAIBackend(settings.remote_url, settings.remote_model, settings.remote_template)


class NoBackend:
    """Implements Backend for invalid settings: every call fails with the reason."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    async def start(self, progress: Progress) -> None:
        raise BackendError(self._problem)

    async def complete(self, request: CompletionRequest) -> Completion:
        raise BackendError(self._problem)

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        raise BackendError(self._problem)

    async def forget(self, session: str) -> None: ...

    async def close(self) -> None: ...
