"""The language server of one client: the state that its handlers share."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp
from pygls.exceptions import FeatureRequestError
from pygls.lsp.server import LanguageServer

from fim_server import log
from fim_server.access.editor_rules import EditorRules, record_rules
from fim_server.access.exclusions import resolved
from fim_server.access.workspace import Workspace, file_of
from fim_server.backends.base import Backend
from fim_server.completion.answer import log_answer, silent
from fim_server.completion.completer import Completer
from fim_server.completion.silence import Silence
from fim_server.completion.statistics import Statistics, statistics_file
from fim_server.documents.documents import DocumentStore
from fim_server.documents.notebooks import NotebookStore
from fim_server.log import where
from fim_server.lsp.ability import Ability
from fim_server.lsp.feedback import Feedback
from fim_server.lsp.protocol import INLINE_EDIT, NO_EDITS, FimProtocol
from fim_server.lsp.status import StatusReporter
from fim_server.settings.settings import Settings, needs_new_backend
from fim_server.settings.sources import SettingsSources

if TYPE_CHECKING:
    from fim_server.edits.service import EditService

logger = logging.getLogger(__name__)

BackendFactory = Callable[[Settings], Backend]


class FimServer(LanguageServer):
    """The server of one client; the declared services exist from `initialize` on."""

    protocol: FimProtocol
    documents: DocumentStore
    notebooks: NotebookStore
    completer: Completer
    create_edits: Callable[[], EditService]

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
        # VS Code's command names are global, so this one is unique to the process.
        self.accept_edit = f"fim-server.acceptEdit.{secrets.token_hex(6)}"
        self.ability = Ability()
        self.status = StatusReporter(self.protocol.notify)
        self.protocol.malformed = self
        self._reported: set[str] = set()
        self.client_process_id: int | None = None
        self.client_name = ""
        self.watching: list[asyncio.Task[None]] = []

    @cached_property
    def edits(self) -> EditService:
        """The service of next edits, created when it is first used, after `initialize`."""
        return self.create_edits()

    def read_settings(self) -> None:
        """Resolve the settings from all sources, and report each mistake once."""
        self.settings, problems = self.sources.resolve()
        log.set_level(self.settings.log_level)
        self.statistics.enabled = self.settings.statistics
        for problem in problems:
            if problem not in self._reported:
                self._reported.add(problem)
                tell(self, lsp.MessageType.Warning, problem)

    def folders(self) -> list[Path]:
        """The workspace folders that are on this machine's file system."""
        uris = [folder.uri for folder in self.workspace.folders.values()]
        if not uris and self.workspace.root_uri:
            uris = [self.workspace.root_uri]
        return [path for path in map(file_of, uris) if path is not None]

    def record_exclusions(self) -> None:
        """Write down what the client excludes beside `config.toml`, for `fim-server tune`."""
        plain, _ = SettingsSources(self.sources.base, self.sources.file).resolve()
        exclude, gitignore = self.settings.exclude, self.settings.gitignore
        differs = (exclude, gitignore) != (plain.exclude, plain.gitignore)
        for root in map(resolved, self.folders()):
            rules = EditorRules(str(root), exclude, gitignore) if differs else None
            try:
                record_rules(root, self.client_name, rules)
            except OSError as problem:
                logger.warning("what the editor excludes is not recorded: %s", where(problem))

    def apply_settings(self) -> bool:
        """Apply the current settings and folders; True if the model must be reloaded."""
        before = self.settings
        self.read_settings()
        self.record_exclusions()
        workspace = Workspace(self.folders(), self.settings)
        self.completer.configure(self.settings, workspace)
        self.edits.configure(self.settings, workspace)
        return needs_new_backend(before, self.settings)

    def malformed_result(self, method: str) -> Any | None:
        """Answer suggestion requests with an empty result: clients pop up errors."""
        if method == INLINE_EDIT:
            return NO_EDITS
        if method != lsp.TEXT_DOCUMENT_INLINE_COMPLETION:
            return None
        log_answer(silent(Silence.BAD_PARAMS), 0.0)
        return lsp.InlineCompletionList(items=[])

    def malformed_notification(self, method: str, params: Any) -> None:
        """Forget the text of a document whose change was lost, since it is now out of sync."""
        if method in (lsp.TEXT_DOCUMENT_DID_OPEN, lsp.TEXT_DOCUMENT_DID_CHANGE):
            if uri := _uri_in(params, "textDocument"):
                self.documents.lose(uri)
        elif method in (lsp.NOTEBOOK_DOCUMENT_DID_OPEN, lsp.NOTEBOOK_DOCUMENT_DID_CHANGE) and (
            uri := _uri_in(params, "notebookDocument")
        ):
            self.notebooks.close(uri)

    def report_server_error(self, error: Exception, source: type[Exception]) -> None:
        """Log the error, instead of the pop-up in the editor that pygls shows by default."""
        if source is not FeatureRequestError:  # reported in the answer to the request
            logger.error("%s: %s", source.__name__, where(error))
        self.protocol.refuse_unreadable(error)


def _uri_in(params: Any, name: str) -> str | None:
    document = params.get(name) if isinstance(params, dict) else None
    uri = document.get("uri") if isinstance(document, dict) else None
    return uri if isinstance(uri, str) else None


def tell(ls: FimServer, kind: lsp.MessageType, message: str) -> None:
    """Write one line to the client's log and to ours."""
    logger.warning("%s", message)
    ls.window_log_message(lsp.LogMessageParams(kind, message))
