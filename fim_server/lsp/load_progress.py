"""Work-done progress while the model loads, for clients that can show it."""

from __future__ import annotations

import asyncio
import logging
import secrets

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

logger = logging.getLogger(__name__)

TITLE = "fim-server"
TOKEN = "fim-server/load"
"""The beginning of the tokens: each progress has a token of its own."""


class LoadProgress:
    """A work-done progress that never delays the work it reports on.

    Reports are dropped until the client has accepted the progress token.
    """

    def __init__(self, server: LanguageServer) -> None:
        self._progress = server.work_done_progress
        self._token = f"{TOKEN}/{secrets.token_hex(4)}"
        self._asking: asyncio.Task[None] | None = None
        self._shown = self._over = False

    def begin(self, what: str) -> None:
        self._asking = asyncio.create_task(self._ask(what))

    def report(self, what: str, share: float) -> None:
        """Show the current step and its progress, 0..1."""
        if self._shown:
            percentage = round(100 * min(max(share, 0.0), 1.0))
            value = lsp.WorkDoneProgressReport(message=what, percentage=percentage)
            self._progress.report(self._token, value)

    def end(self, message: str) -> None:
        """End the progress; if the client has not accepted the token yet, it never begins."""
        self._over = True
        if self._shown:
            self._progress.end(self._token, lsp.WorkDoneProgressEnd(message=message))

    async def _ask(self, what: str) -> None:
        if self._over:
            return
        try:
            await self._progress.create_async(self._token)
        except JsonRpcException as refused:
            logger.info("the client shows no progress (code %d)", refused.code)
            return
        if not self._over:
            value = lsp.WorkDoneProgressBegin(title=TITLE, message=what, percentage=0)
            self._progress.begin(self._token, value)
            self._shown = True
