"""The language server: its capabilities and its life.

No module reached from here imports torch: `initialize` is answered at once, and the model is loaded
in the background after `initialized`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from lsprotocol import types as lsp
from pygls.exceptions import FeatureRequestError, JsonRpcException
from pygls.lsp.server import LanguageServer

from fim_server import log
from fim_server.access.workspace import Workspace, file_of
from fim_server.backends.base import Backend, BackendError
from fim_server.completion.completer import Completer, log_answer, silent
from fim_server.completion.silence import Silence
from fim_server.completion.statistics import Statistics, statistics_file
from fim_server.documents.documents import DocumentStore, Encoding
from fim_server.documents.notebooks import NotebookStore
from fim_server.edits.service import EditService
from fim_server.log import where
from fim_server.lsp import document_sync as lsp_sync
from fim_server.lsp import edits as lsp_edits
from fim_server.lsp import feedback
from fim_server.lsp.backend_choice import backend_for
from fim_server.lsp.feedback import Feedback
from fim_server.lsp.load_progress import LoadProgress
from fim_server.lsp.protocol import FimProtocol
from fim_server.lsp.status import StatusReporter
from fim_server.settings.settings import Settings, needs_new_backend
from fim_server.settings.sources import (
    SECTION,
    SettingsSources,
    config_file,
    pushed_configuration,
)

logger = logging.getLogger(__name__)

BackendFactory = Callable[[Settings], Backend]


class FimServer(LanguageServer):
    """One client's server. What `initialize` creates is not there before: nothing asks for it."""

    protocol: FimProtocol
    documents: DocumentStore
    notebooks: NotebookStore
    completer: Completer
    edits: EditService

    def __init__(self, sources: SettingsSources, backend_factory: BackendFactory) -> None:
        cells = lsp.NotebookDocumentFilterWithNotebook(notebook="*")
        super().__init__(
            "fim-server",
            version("fim-server"),
            protocol_cls=FimProtocol,
            notebook_document_sync=lsp.NotebookDocumentSyncOptions([cells]),
        )
        self.sources = sources
        self.settings = sources.base
        self.backend_factory = backend_factory
        self.statistics = Statistics(statistics_file())
        self.feedback = Feedback(self.statistics)
        # In VS Code the names of commands are global, so this one is unique to the process.
        self.accept_edit = f"fim-server.acceptEdit.{secrets.token_hex(6)}"
        self.status = StatusReporter(self.protocol.notify)
        self.protocol.malformed = self
        self._told: set[str] = set()

    def read_settings(self) -> None:
        """Take the settings from all sources; each mistake is told once."""
        self.settings, problems = self.sources.resolve()
        log.set_level(self.settings.log_level)
        self.statistics.enabled = self.settings.statistics
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                tell(self, lsp.MessageType.Warning, problem)

    def folders(self) -> list[Path]:
        """The workspace folders that are folders."""
        uris = [folder.uri for folder in self.workspace.folders.values()]
        if not uris and self.workspace.root_uri:
            uris = [self.workspace.root_uri]
        return [path for path in map(file_of, uris) if path is not None]

    def apply_settings(self) -> bool:
        """Obey the settings and folders of now; True if the model must be loaded anew."""
        before = self.settings
        self.read_settings()
        workspace = Workspace(self.folders(), self.settings)
        self.completer.configure(self.settings, workspace)
        self.edits.configure(self.settings, workspace)
        return needs_new_backend(before, self.settings)

    def malformed_result(self, method: str) -> Any | None:
        """An inline completion is always answered with items: clients show an error as a pop-up."""
        if method == lsp_edits.INLINE_EDIT:
            return lsp_edits.NO_EDITS
        if method != lsp.TEXT_DOCUMENT_INLINE_COMPLETION:
            return None
        log_answer(silent(Silence.BAD_PARAMS), 0.0)
        return lsp.InlineCompletionList(items=[])

    def malformed_notification(self, method: str, params: Any) -> None:
        """Forget a document of which a change was lost: its text is not the client's any more."""
        if method in (lsp.TEXT_DOCUMENT_DID_OPEN, lsp.TEXT_DOCUMENT_DID_CHANGE):
            if uri := _uri_in(params, "textDocument"):
                self.documents.close(uri)
        elif method in (lsp.NOTEBOOK_DOCUMENT_DID_OPEN, lsp.NOTEBOOK_DOCUMENT_DID_CHANGE) and (
            uri := _uri_in(params, "notebookDocument")
        ):
            self.notebooks.close(uri)

    def report_server_error(self, error: Exception, source: type[Exception]) -> None:
        """Log it; a pop-up in the editor for every broken message would help nobody."""
        if source is not FeatureRequestError:  # a request's error is in its answer
            logger.error("%s: %s", source.__name__, where(error))
        self.protocol.refuse_unreadable(error)


def _uri_in(params: Any, name: str) -> str | None:
    document = params.get(name) if isinstance(params, dict) else None
    uri = document.get("uri") if isinstance(document, dict) else None
    return uri if isinstance(uri, str) else None


def initialize(ls: FimServer, params: lsp.InitializeParams) -> None:
    """Take over the client's settings, folders and position encoding."""
    ls.sources.initialization_options = params.initialization_options
    ls.read_settings()
    ls.documents = DocumentStore(Encoding(ls.workspace.position_encoding or Encoding.UTF16))
    ls.notebooks = NotebookStore(ls.documents)
    workspace = Workspace(ls.folders(), ls.settings)
    ls.completer = Completer(
        ls.documents,
        ls.backend_factory(ls.settings),
        ls.settings,
        workspace,
        ls.notebooks,
        on_trouble=lambda line: tell(ls, lsp.MessageType.Warning, line),
    )
    lsp_edits.set_up(ls, workspace, params.capabilities)
    ls.protocol.initialized = True


async def load_model(ls: FimServer, _params: lsp.InitializedParams | None = None) -> None:
    """Make the backend ready in the background; requests are answered empty until then."""
    window = ls.client_capabilities.window
    progress = LoadProgress(ls)
    if window is not None and window.work_done_progress:
        progress.begin("Loading the model")

    def report(what: str, share: float) -> None:
        progress.report(what, share)
        ls.status.loading(what, share)

    ls.status.loading("Loading the model", 0.0)
    try:
        await ls.completer.start(report)
    except BackendError as problem:
        progress.end("No model: see the log")
        ls.status.failed(str(problem))
        tell(ls, lsp.MessageType.Error, str(problem))
        ls.window_show_message(
            lsp.ShowMessageParams(lsp.MessageType.Error, f"fim-server: {problem}")
        )
    else:
        progress.end("Ready")
        ls.status.ready()


async def did_change_configuration(ls: FimServer, params: lsp.DidChangeConfigurationParams) -> None:
    """Take what the client sends, or ask it where it only says that something changed."""
    pushed = pushed_configuration(params.settings)
    workspace = ls.client_capabilities.workspace
    if pushed is None and workspace is not None and workspace.configuration:
        item = lsp.ConfigurationItem(section=SECTION)
        try:
            [pushed] = await ls.workspace_configuration_async(lsp.ConfigurationParams([item]))
        except (JsonRpcException, ValueError, TypeError) as refused:
            logger.warning("the client's configuration cannot be had: %s", where(refused))
            return
    ls.sources.configuration = _plain(pushed)
    if ls.apply_settings():
        old = ls.completer.use_backend(ls.backend_factory(ls.settings))
        await asyncio.gather(old.close(), load_model(ls))


def _plain(value: Any) -> Any:
    """JSON as it was, where the protocol library made objects with attributes of it."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


async def shut_down(ls: FimServer, _params: None) -> None:
    ls.statistics.flush()
    ls.edits.close()
    await ls.completer.close()


async def inline_completion(
    ls: FimServer, params: lsp.InlineCompletionParams
) -> lsp.InlineCompletionList:
    """Always items: on null clients keep the text they show, and an error they show as well."""
    ls.status.asked()
    answer = await ls.completer.complete(
        params.text_document.uri,
        params.position,
        params.context.trigger_kind,
        getattr(params.text_document, "version", None),
        params.context.selected_completion_info,
    )
    ls.status.answered(answer.silence, answer.detail)
    ls.statistics.count("requests")
    ls.statistics.count("offered" if answer.items else f"silence.{answer.silence}")
    ls.feedback.mark(answer.items)
    return lsp.InlineCompletionList(items=answer.items)


def did_focus(ls: FimServer, params: Any) -> None:
    """`textDocument/didFocus {textDocument: {uri}}`: the user looks at another document."""
    uri = getattr(getattr(params, "textDocument", None), "uri", None)
    if isinstance(uri, str):
        ls.documents.use(uri)


def tell(ls: FimServer, kind: lsp.MessageType, message: str) -> None:
    """One line into the client's log and into ours."""
    logger.warning("%s", message)
    ls.window_log_message(lsp.LogMessageParams(kind, message))


def build_server(
    sources: SettingsSources, backend_factory: BackendFactory = backend_for
) -> FimServer:
    """A server with all its handlers. The backend is made when the client's settings are known."""
    server = FimServer(sources, backend_factory)
    # Without an options object pygls advertises nothing.
    completion = lsp.InlineCompletionOptions()
    server.feature(lsp.TEXT_DOCUMENT_INLINE_COMPLETION, completion)(inline_completion)
    for method, handler in _HANDLERS.items():
        server.feature(method)(handler)

    def shown(params: Any) -> None:
        server.feedback.shown(params)

    def partly_accepted(params: Any) -> None:
        server.feedback.partly_accepted(params)

    def accepted(*arguments: Any) -> None:
        server.feedback.accepted(arguments[0] if arguments else None)

    lsp_edits.register(server)
    server.feature(feedback.DID_SHOW)(shown)
    server.feature(feedback.DID_PARTIALLY_ACCEPT)(partly_accepted)
    server.command(server.feedback.accept_command)(accepted)
    return server


_HANDLERS: dict[str, Callable[..., Any]] = {
    lsp.INITIALIZE: initialize,
    lsp.INITIALIZED: load_model,
    lsp.SHUTDOWN: shut_down,
    lsp.TEXT_DOCUMENT_DID_OPEN: lsp_sync.did_open,
    lsp.TEXT_DOCUMENT_DID_CHANGE: lsp_sync.did_change,
    lsp.TEXT_DOCUMENT_DID_CLOSE: lsp_sync.did_close,
    lsp.NOTEBOOK_DOCUMENT_DID_OPEN: lsp_sync.notebook_did_open,
    lsp.NOTEBOOK_DOCUMENT_DID_CHANGE: lsp_sync.notebook_did_change,
    lsp.NOTEBOOK_DOCUMENT_DID_CLOSE: lsp_sync.notebook_did_close,
    lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: lsp_sync.did_change_folders,
    lsp.WORKSPACE_DID_CHANGE_CONFIGURATION: did_change_configuration,
    feedback.DID_FOCUS: did_focus,
}


def run_stdio(
    settings: Settings,
    backend_factory: BackendFactory = backend_for,
    command_line: Mapping[str, Any] | None = None,
) -> int:
    """Serve one client on stdin and stdout until it leaves. Returns the process' exit code:

    0 after `shutdown`, 1 for `exit` or a closed stdin without it.
    """
    log.configure(settings.log_level, log.log_file())
    sources = SettingsSources(settings, config_file(), command_line=command_line)
    server = build_server(sources, backend_factory)
    server.start_io(sys.stdin.buffer, claim_stdout())
    return 0 if server.protocol.shutdown_requested else 1


def claim_stdout() -> BinaryIO:
    """Take stdout for LSP: whatever else this process or a C library prints goes to stderr."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel
