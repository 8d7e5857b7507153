"""The handlers of `initialize`, `initialized`, configuration changes and `shutdown`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from fim_server.access.workspace import Workspace
from fim_server.backends.base import BackendError
from fim_server.completion.completer import Completer
from fim_server.documents.documents import DocumentStore, Encoding
from fim_server.documents.notebooks import NotebookStore
from fim_server.log import where
from fim_server.lsp import edits
from fim_server.lsp.announced import REPLACE_REST, announces, knows_status
from fim_server.lsp.life import end_on_signals, end_once, end_with
from fim_server.lsp.load_progress import LoadProgress
from fim_server.lsp.server import FimServer, tell
from fim_server.settings.sources import SECTION, pushed_configuration

logger = logging.getLogger(__name__)


def initialize(ls: FimServer, params: lsp.InitializeParams) -> None:
    """Read the client's settings, folders and position encoding, and create the services."""
    ls.status.announced = knows_status(params)
    ls.sources.initialization_options = params.initialization_options
    ls.client_name = params.client_info.name if params.client_info else ""
    ls.read_settings()
    ls.record_exclusions()
    _watch(ls, params.process_id)
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
        replaces_rest=announces(params.capabilities, REPLACE_REST),
    )
    edits.set_up(ls, params.capabilities)
    ls.protocol.initialized = True


async def load_model(ls: FimServer, _params: lsp.InitializedParams | None = None) -> None:
    """Load the model in the background; until it is ready, requests get no items."""
    window = ls.client_capabilities.window
    progress = LoadProgress(ls)
    if window is not None and window.work_done_progress:
        progress.begin("Loading the model")

    def report(what: str, share: float) -> None:
        progress.report(what, share)
        ls.status.loading(what, share)

    ls.status.loading("Loading the model", 0.0)
    # Imported here, while the model loads, so that no keystroke waits for it.
    asyncio.get_running_loop().call_soon(lambda: ls.edits)
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
    """Apply the pushed configuration, or request it if the client only announced a change."""
    pushed = pushed_configuration(params.settings)
    workspace = ls.client_capabilities.workspace
    if pushed is None and workspace is not None and workspace.configuration:
        item = lsp.ConfigurationItem(section=SECTION)
        try:
            [pushed] = await ls.workspace_configuration_async(lsp.ConfigurationParams([item]))
        except (JsonRpcException, ValueError, TypeError) as refused:
            logger.warning("workspace/configuration request failed: %s", where(refused))
            return
    ls.sources.configuration = _plain(pushed)
    if ls.apply_settings():
        old = ls.completer.use_backend(ls.backend_factory(ls.settings))
        await asyncio.gather(old.close(), load_model(ls))


def _plain(value: Any) -> Any:
    """The JSON value as the client sent it, without the objects that pygls makes of mappings."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


async def shut_down(ls: FimServer, _params: None = None) -> None:
    """Save the counts and stop all work."""
    ls.statistics.flush()
    ls.edits.close()
    await ls.completer.close()


def _watch(ls: FimServer, process_id: int | None) -> None:
    """End with the client: with the process of `initialize` or of the command line, by a signal, or
    when nothing can be written to it any more."""

    async def leave() -> None:
        await shut_down(ls)

    end_on_signals(leave)
    ls.protocol.when_client_is_gone = end_once(leave)
    # 0 and negative numbers are groups of processes, not an editor.
    ids = {number for number in (process_id, ls.client_process_id) if number and number > 0}
    ls.watching = [end_with(number, leave) for number in ids]
