"""Ask the backend that the settings select, for commands that run without an editor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fim_server.backends.base import Backend, BackendError
from fim_server.commands.usage_error import UsageError
from fim_server.lsp.backend_choice import backend_for
from fim_server.settings.settings import Settings

T = TypeVar("T")


def ask_backend(settings: Settings, ask: Callable[[Backend], Awaitable[T]]) -> T:
    """The result of `ask`, called with a backend that is ready.

    While the backend gets ready there is a progress bar, if stderr is a terminal. Raises UsageError
    if the backend cannot serve.
    """
    return asyncio.run(_ask(settings, ask))


async def _ask(settings: Settings, ask: Callable[[Backend], Awaitable[T]]) -> T:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    backend = backend_for(settings)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("Starting", total=1.0)
            await backend.start(
                lambda what, share: bar.update(task, description=what, completed=share)
            )
        return await ask(backend)
    except BackendError as problem:
        raise UsageError(str(problem)) from problem
    finally:
        await backend.close()
