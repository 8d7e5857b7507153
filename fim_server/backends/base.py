"""The interface behind which completions are computed.

A backend runs the model in this process, reaches the engine over its socket, or asks a remote
server: its callers cannot tell. What is asked and answered is `fim_model.requests`. This module
imports nothing heavy, so that the front-end can import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from fim_model.requests import (
    ChatRequest,
    Completion,
    CompletionRequest,
    InstructionRequest,
    Rewrite,
    RewriteRequest,
)

Progress = Callable[[str, float], None]
"""Called as `progress(what, share)` with `share` in 0..1 while a backend gets ready."""


TextListener = Callable[[str], None]
"""Receives the text so far of an answer, whenever it grew."""


class BackendError(Exception):
    """The backend cannot serve. The message is one line: what failed, and what to do next."""


class Unfit(BackendError):
    """This request cannot be served, such as lines that are too long; others can."""


class Unsupported(BackendError):
    """The backend can never do what it is asked: do not retry."""


class Backend(Protocol):
    """Computes completions off the caller's event loop."""

    async def start(self, progress: Progress) -> None:
        """Get ready (load the model, connect). Raises BackendError."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Fill the hole. Cancelling the awaiting task stops the work within one forward.

        A newer request of the same `session` cancels the older one (latest wins): the older call
        returns an empty Completion. Raises BackendError if it cannot serve.
        """

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        """Rewrite a region; None if another request took its place (it may be asked again).

        Cancelling the awaiting task stops the work within one forward. Raises Unsupported where
        the model or server cannot do it, and BackendError if it cannot serve.
        """

    async def forget(self, session: str) -> None:
        """Drop the cached tokens of a session that is over, and of its parts (`session#…`).

        Never raises: what cannot be dropped now is evicted later.
        """

    async def close(self) -> None:
        """Stop all work and release the model. Safe to call twice."""


@runtime_checkable
class Assistant(Protocol):
    """What a backend can do besides, if it runs a model itself: instructions and conversations."""

    async def why_not_instruct(self) -> str | None:
        """Why edits by instruction are not offered with this model; None if they are.

        The first call for a model may take a while: it is measured with ten small edits, which
        yield to all other requests. Raises BackendError.
        """

    async def instruct(self, request: InstructionRequest) -> Rewrite | None:
        """Rewrite a region as an instruction says, whatever the model's score.

        None if another request took its place. Raises as `Backend.rewrite` does.
        """

    async def answer(self, request: ChatRequest, on_text: TextListener) -> str:
        """The next answer of a conversation. Raises BackendError."""


def assistant_of(backend: Backend) -> Assistant:
    """The backend as an assistant. Raises Unsupported for a remote server."""
    if isinstance(backend, Assistant):
        return backend
    raise Unsupported(
        "a remote server only completes; instructions and questions need the backend 'engine' or "
        "'in_process'"
    )
