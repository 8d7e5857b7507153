"""The LSP protocol of pygls with three corrections.

* Every request is answered: also one with invalid parameters, on which pygls leaves the client
  waiting, and one that arrives before `initialize` or after `shutdown`.
* Parameters that only deviate in form from the specification are repaired (`client_mistakes.py`).
* pygls does not keep a copy of documents: it splits lines by Python's rules, clamps positions
  incorrectly and modifies the parameters. The text is kept by `documents/` instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import cattrs
from lsprotocol import types as lsp
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
    JsonRpcServerNotInitialized,
)
from pygls.protocol import LanguageServerProtocol, lsp_method
from pygls.protocol.json_rpc import RPCRequest

from fim_server.lsp.client_mistakes import repaired, without_invalid_fields

logger = logging.getLogger(__name__)

INLINE_EDIT = "textDocument/copilotInlineEdit"
NO_EDITS: dict[str, list[Any]] = {"edits": []}


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message whose parameters are invalid. `id` is None for a notification."""

    method: str
    id: Any
    params: Any
    problem: str


class MalformedHandler(Protocol):
    """How the server handles messages with invalid parameters."""

    def malformed_result(self, method: str) -> Any | None:
        """The result to answer a request with; None to answer with an error."""

    def malformed_notification(self, method: str, params: Any) -> None:
        """Handle the loss of a notification. `params` is the client's JSON, of any shape."""


class FimProtocol(LanguageServerProtocol):
    """The protocol of the language server; see the module's docstring."""

    malformed: MalformedHandler
    initialized = False
    when_client_is_gone: Callable[[], None] | None = None
    _client_gone = False

    @property
    def shutdown_requested(self) -> bool:
        return self._shutdown

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Convert a JSON object to a typed message; pygls calls this for nested objects too."""
        if data.get("jsonrpc") is None or not ("method" in data or "id" in data):
            return data
        data = repaired(data)
        if data.get("method") == lsp.INITIALIZE and isinstance(data.get("params"), dict):
            data = without_invalid_fields(data, self._converter)
        try:
            return _with_version(super().structure_message(data), data)
        except JsonRpcException as error:
            if not isinstance(data.get("method"), str):
                raise
            cause = error.__cause__ or error
            return Malformed(data["method"], data.get("id"), data.get("params"), _problem(cause))

    def handle_message(self, message: Any) -> None:
        if isinstance(message, Malformed):
            self._handle_malformed(message)
            return
        if isinstance(message, dict) and "method" in message and message.get("id") is not None:
            self._refuse(message["id"], JsonRpcInvalidRequest('the field "jsonrpc" is missing'))
            return
        method = getattr(message, "method", None)
        is_request = isinstance(message, RPCRequest)
        if self._shutdown and is_request:
            self._refuse(message.id, JsonRpcInvalidRequest(f"{method}: the server is shut down"))
        elif self.initialized and method == lsp.INITIALIZE:
            self._refuse(message.id, JsonRpcInvalidRequest("initialize: already initialized"))
        elif self.initialized or method in (lsp.INITIALIZE, lsp.EXIT):
            self._client_gone = self._client_gone or method == lsp.EXIT
            super().handle_message(message)
        elif is_request:
            problem = f"{method}: the server is not initialized yet"
            self._refuse(message.id, JsonRpcServerNotInitialized(problem))

    def refuse_unreadable(self, error: Exception) -> None:
        """Answer a body that is not valid JSON with an error without id, as JSON-RPC requires."""
        if isinstance(error, ValueError | RecursionError):  # ValueError: also too many digits
            problem = {"code": JsonRpcParseError.CODE, "message": "the message is not valid JSON"}
            self._send_data({"jsonrpc": self.VERSION, "id": None, "error": problem})

    def _handle_malformed(self, message: Malformed) -> None:
        logger.warning("%s: invalid parameters: %s", message.method, message.problem)
        if message.id is None:
            self.malformed.malformed_notification(message.method, message.params)
        elif (result := self.malformed.malformed_result(message.method)) is not None:
            self._send_response(message.id, result)
        else:
            problem = f"{message.method}: {message.problem}"
            self._refuse(message.id, JsonRpcInvalidParams(problem))

    def _handle_cancel_notification(self, msg_id: Any) -> None:
        """Cancel a request; silently ignore one that is already answered, which is common."""
        if msg_id in self._request_futures:
            super()._handle_cancel_notification(msg_id)

    def _run_generator(
        self,
        future: Future[Any] | None,
        *,
        gen: Generator[Any, Any, Any],
        result_future: Future[Any],
    ) -> None:
        """Run the next part of a built-in handler, or end it if the part before was cancelled."""
        if future is not None and future.cancelled():
            gen.close()
            result_future.cancel()
            return
        super()._run_generator(future, gen=gen, result_future=result_future)

    def _send_data(self, data: Any) -> None:
        """Write a message, unless the client is gone: then the server ends too, even if another
        process keeps its stdin open."""
        if self._client_gone:
            return
        try:
            super()._send_data(data)
        except BrokenPipeError:
            self._client_gone = True
            if self.when_client_is_gone is not None:
                self.when_client_is_gone()

    def _refuse(self, msg_id: Any, error: JsonRpcException) -> None:
        self._send_response(msg_id, error=error.to_response_error())

    # These handlers replace those of pygls, which would keep a copy of the text.

    @lsp_method(lsp.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: lsp.DidOpenTextDocumentParams) -> None:
        self.fm.features[lsp.TEXT_DOCUMENT_DID_OPEN](params)

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: lsp.DidChangeTextDocumentParams) -> None:
        self.fm.features[lsp.TEXT_DOCUMENT_DID_CHANGE](params)

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: lsp.DidCloseTextDocumentParams) -> None:
        self.fm.features[lsp.TEXT_DOCUMENT_DID_CLOSE](params)

    @lsp_method(lsp.NOTEBOOK_DOCUMENT_DID_OPEN)
    def lsp_notebook_document__did_open(self, params: lsp.DidOpenNotebookDocumentParams) -> None:
        self.fm.features[lsp.NOTEBOOK_DOCUMENT_DID_OPEN](params)

    @lsp_method(lsp.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def lsp_notebook_document__did_change(
        self, params: lsp.DidChangeNotebookDocumentParams
    ) -> None:
        self.fm.features[lsp.NOTEBOOK_DOCUMENT_DID_CHANGE](params)

    @lsp_method(lsp.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def lsp_notebook_document__did_close(self, params: lsp.DidCloseNotebookDocumentParams) -> None:
        self.fm.features[lsp.NOTEBOOK_DOCUMENT_DID_CLOSE](params)


def _with_version(message: Any, data: dict[str, Any]) -> Any:
    """Keep the `textDocument.version` of an inline completion request.

    Some clients send it, but the type of the request has no such field.
    """
    if isinstance(message, lsp.InlineCompletionRequest):
        version = data["params"]["textDocument"].get("version")
        if isinstance(version, int):
            uri = message.params.text_document.uri
            identifier: Any = lsp.VersionedTextDocumentIdentifier(version, uri)
            message.params.text_document = identifier
    return message


def _problem(cause: BaseException) -> str:
    """The problem with a message: the paths of invalid fields, never their values."""
    if isinstance(cause, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(cause))
    return type(cause).__name__
