"""The language server on stdio, assembled from its handlers.

Nothing imported from here imports torch: `initialize` is answered at once, and the model loads in
the background after `initialized`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from lsprotocol import types as lsp

from fim_server import log
from fim_server.lsp import assistant, completion, document_sync, edits, feedback, lifecycle
from fim_server.lsp.backend_choice import backend_for
from fim_server.lsp.framing import HeaderReader
from fim_server.lsp.server import BackendFactory, FimServer
from fim_server.settings.settings import Settings
from fim_server.settings.sources import SettingsSources, config_file


def build_server(
    sources: SettingsSources, backend_factory: BackendFactory = backend_for
) -> FimServer:
    """A server with all handlers; it creates its backend once the client's settings are known."""
    server = FimServer(sources, backend_factory)
    # pygls advertises the capability only if it is given an options object.
    options = lsp.InlineCompletionOptions()
    server.feature(lsp.TEXT_DOCUMENT_INLINE_COMPLETION, options)(completion.inline_completion)
    for method, handler in _HANDLERS.items():
        server.feature(method)(handler)

    def shown(params: Any) -> None:
        server.feedback.shown(params)

    def partly_accepted(params: Any) -> None:
        server.feedback.partly_accepted(params)

    def accepted(*arguments: Any) -> None:
        server.feedback.accepted(arguments[0] if arguments else None)

    def statistics(_params: Any) -> dict[str, dict[str, int]]:
        return server.statistics.totals()

    edits.register(server)
    assistant.register(server)
    server.feature(feedback.STATISTICS)(statistics)
    server.feature(feedback.DID_SHOW)(shown)
    server.feature(feedback.DID_PARTIALLY_ACCEPT)(partly_accepted)
    server.command(server.feedback.accept_command)(accepted)
    return server


_HANDLERS: dict[str, Callable[..., Any]] = {
    lsp.INITIALIZE: lifecycle.initialize,
    lsp.INITIALIZED: lifecycle.load_model,
    lsp.SHUTDOWN: lifecycle.shut_down,
    lsp.TEXT_DOCUMENT_DID_OPEN: document_sync.did_open,
    lsp.TEXT_DOCUMENT_DID_CHANGE: document_sync.did_change,
    lsp.TEXT_DOCUMENT_DID_CLOSE: document_sync.did_close,
    lsp.NOTEBOOK_DOCUMENT_DID_OPEN: document_sync.notebook_did_open,
    lsp.NOTEBOOK_DOCUMENT_DID_CHANGE: document_sync.notebook_did_change,
    lsp.NOTEBOOK_DOCUMENT_DID_CLOSE: document_sync.notebook_did_close,
    lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: document_sync.did_change_folders,
    lsp.WORKSPACE_DID_CHANGE_CONFIGURATION: lifecycle.did_change_configuration,
    feedback.DID_FOCUS: completion.did_focus,
}


def run_stdio(
    settings: Settings,
    backend_factory: BackendFactory = backend_for,
    command_line: Mapping[str, Any] | None = None,
    client_process_id: int | None = None,
) -> int:
    """Serve one client on stdin and stdout until it exits, and return the exit code.

    As LSP specifies: 0 after `shutdown`, 1 for `exit` or a closed stdin without `shutdown`. The
    process also ends with `client_process_id`, beside the process that `initialize` names.
    """
    log.configure(settings.log_level, log.log_file())
    sources = SettingsSources(settings, config_file(), command_line=command_line)
    server = build_server(sources, backend_factory)
    server.client_process_id = client_process_id
    requests: Any = HeaderReader(sys.stdin.buffer)  # has the methods of a stream that pygls calls
    try:
        server.start_io(requests, claim_stdout())
    finally:
        server.statistics.flush()
    return 0 if server.protocol.shutdown_requested else 1


def claim_stdout() -> BinaryIO:
    """Reserve stdout for LSP: anything else that this process prints goes to stderr."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        errors = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is closed
        errors = os.open(os.devnull, os.O_WRONLY)
    os.dup2(errors, sys.stdout.fileno())
    return channel
