"""The language server: its capabilities and handlers, nothing else.

No module reached from here imports torch: `initialize` is answered at once, and the model is loaded
in the background after `initialized`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, BinaryIO

from lsprotocol import types as lsp
from pygls.exceptions import FeatureRequestError
from pygls.lsp.server import LanguageServer

from fim_server import log
from fim_server.backends.base import Backend, BackendError
from fim_server.backends.choice import backend_for
from fim_server.completion.completer import Completer, log_answer, silent
from fim_server.completion.silence import Silence
from fim_server.documents import DocumentStore, Encoding, SyncError
from fim_server.log import where
from fim_server.progress import LoadProgress
from fim_server.protocol import FimProtocol
from fim_server.settings import Settings, read_settings

logger = logging.getLogger(__name__)

BackendFactory = Callable[[Settings], Backend]


class FimServer(LanguageServer):
    """One client's server. What `initialize` creates is not there before: nothing asks for it."""

    protocol: FimProtocol
    documents: DocumentStore
    completer: Completer

    def __init__(self, settings: Settings, backend_factory: BackendFactory) -> None:
        super().__init__("fim-server", version("fim-server"), protocol_cls=FimProtocol)
        self.settings = settings
        self.backend_factory = backend_factory
        self.protocol.malformed = self

    def malformed_result(self, method: str) -> Any | None:
        """An inline completion is always answered with items: clients show an error as a pop-up."""
        if method != lsp.TEXT_DOCUMENT_INLINE_COMPLETION:
            return None
        log_answer(silent(Silence.BAD_PARAMS), 0.0)
        return lsp.InlineCompletionList(items=[])

    def malformed_notification(self, method: str, params: Any) -> None:
        """Forget a document of which a change was lost: its text is not the client's any more."""
        if method in (lsp.TEXT_DOCUMENT_DID_OPEN, lsp.TEXT_DOCUMENT_DID_CHANGE):
            document = params.get("textDocument") if isinstance(params, dict) else None
            uri = document.get("uri") if isinstance(document, dict) else None
            if isinstance(uri, str):
                self.documents.close(uri)

    def report_server_error(self, error: Exception, source: type[Exception]) -> None:
        """Log it; a pop-up in the editor for every broken message would help nobody."""
        if source is not FeatureRequestError:  # a request's error is in its answer
            logger.error("%s: %s", source.__name__, where(error))
        self.protocol.refuse_unreadable(error)


def initialize(ls: FimServer, params: lsp.InitializeParams) -> None:
    """Take over the client's settings and position encoding."""
    ls.settings, problems = read_settings(params.initialization_options, ls.settings)
    log.set_level(ls.settings.log_level)
    for problem in problems:
        tell(ls, lsp.MessageType.Warning, problem)
    ls.documents = DocumentStore(Encoding(ls.workspace.position_encoding or Encoding.UTF16))
    ls.completer = Completer(
        ls.documents,
        ls.backend_factory(ls.settings),
        ls.settings,
        on_trouble=lambda line: tell(ls, lsp.MessageType.Warning, line),
    )
    ls.protocol.initialized = True


async def load_model(ls: FimServer, _params: lsp.InitializedParams) -> None:
    """Make the backend ready in the background; requests are answered empty until then."""
    window = ls.client_capabilities.window
    progress = LoadProgress(ls)
    if window is not None and window.work_done_progress:
        progress.begin("Loading the model")
    try:
        await ls.completer.start(progress.report)
    except BackendError as problem:
        progress.end("No model: see the log")
        tell(ls, lsp.MessageType.Error, str(problem))
        ls.window_show_message(
            lsp.ShowMessageParams(lsp.MessageType.Error, f"fim-server: {problem}")
        )
    else:
        progress.end("Ready")


async def shut_down(ls: FimServer, _params: None) -> None:
    await ls.completer.close()


def did_open(ls: FimServer, params: lsp.DidOpenTextDocumentParams) -> None:
    document = params.text_document
    ls.documents.open(document.uri, document.language_id, document.version, document.text)
    ls.completer.document_changed(document.uri)


def did_change(ls: FimServer, params: lsp.DidChangeTextDocumentParams) -> None:
    document = params.text_document
    try:
        ls.documents.change(document.uri, document.version, params.content_changes)
    except SyncError as problem:
        logger.warning("%s", problem)
    else:
        ls.completer.document_changed(document.uri)


def did_close(ls: FimServer, params: lsp.DidCloseTextDocumentParams) -> None:
    ls.documents.close(params.text_document.uri)
    ls.completer.document_changed(params.text_document.uri)
    ls.completer.forget(params.text_document.uri)


async def inline_completion(
    ls: FimServer, params: lsp.InlineCompletionParams
) -> lsp.InlineCompletionList:
    """Always items: on null clients keep the text they show, and an error they show as well."""
    answer = await ls.completer.complete(
        params.text_document.uri,
        params.position,
        params.context.trigger_kind,
        getattr(params.text_document, "version", None),
    )
    return lsp.InlineCompletionList(items=answer.items)


def tell(ls: FimServer, kind: lsp.MessageType, message: str) -> None:
    """One line into the client's log and into ours."""
    logger.warning("%s", message)
    ls.window_log_message(lsp.LogMessageParams(kind, message))


def build_server(settings: Settings, backend_factory: BackendFactory = backend_for) -> FimServer:
    """A server with all its handlers. The backend is made when the client's settings are known."""
    server = FimServer(settings, backend_factory)
    server.feature(lsp.INITIALIZE)(initialize)
    server.feature(lsp.INITIALIZED)(load_model)
    server.feature(lsp.SHUTDOWN)(shut_down)
    server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)(did_open)
    server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    # Without an options object pygls advertises nothing.
    options = lsp.InlineCompletionOptions()
    server.feature(lsp.TEXT_DOCUMENT_INLINE_COMPLETION, options)(inline_completion)
    return server


def run_stdio(settings: Settings, backend_factory: BackendFactory = backend_for) -> int:
    """Serve one client on stdin and stdout until it leaves. Returns the process' exit code:

    0 after `shutdown`, 1 for `exit` or a closed stdin without it.
    """
    log.configure(settings.log_level)
    server = build_server(settings, backend_factory)
    server.start_io(sys.stdin.buffer, claim_stdout())
    return 0 if server.protocol.shutdown_requested else 1


def claim_stdout() -> BinaryIO:
    """Take stdout for LSP: whatever else this process or a C library prints goes to stderr."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel
