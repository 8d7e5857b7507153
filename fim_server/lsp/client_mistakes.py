"""Messages that clients send although the specification does not allow them, made valid.

Only mistakes with one possible meaning are repaired: `range: null` is a change of the whole text,
a change without a version follows the one before, a completion without a trigger is automatic, a
symbol kind of a later specification is none of ours. Everything else stays as it is and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import cattrs
from lsprotocol import types as lsp

from fim_server.documents.documents import UNVERSIONED

Json = dict[str, Any]

MAX_UINT = 2**31 - 1
"""The largest `uinteger` of LSP. Clients send larger ones for "the end of the line"."""

MAX_INT = 2**31 - 1

_TRIGGERS = frozenset(kind.value for kind in lsp.InlineCompletionTriggerKind)
_MAX_ROUNDS = 50
_PATH = re.compile(r"@ \$\.params\.(\S+)$")


def repaired(message: Json) -> Json:
    """The message, a copy if something in it was repaired."""
    params, method = message.get("params"), message.get("method")
    repair = _REPAIRS.get(method) if isinstance(method, str) else None
    if repair is None or not isinstance(params, dict):
        return message
    return {**message, "params": repair(params)}


def without_invalid_fields(initialize: Json, converter: cattrs.Converter) -> Json:
    """The `initialize` request without optional fields that do not have the specified type.

    Most of it describes features that are not used here, and a later specification adds values, so
    one unknown value must not keep the server from starting.
    """
    for _ in range(_MAX_ROUNDS):
        try:
            converter.structure(initialize, lsp.InitializeRequest)
        except cattrs.BaseValidationError as invalid:
            problems = cattrs.transform_error(invalid)
        except Exception:
            return initialize
        else:
            return initialize
        paths = [match[1] for problem in problems if (match := _PATH.search(problem))]
        params = initialize["params"]
        for path in paths:
            params = _without(params, _steps(path))
        if not paths or params is initialize["params"]:
            return initialize
        initialize = {**initialize, "params": params}
    return initialize


def _steps(path: str) -> list[str]:
    """The keys of a path such as `client_info.name` or `value_set[1]`, without list indexes."""
    names = [name.partition("[")[0] for name in path.split(".")]
    return [re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name) for name in names]


def _without(value: Any, steps: list[str]) -> Any:
    """A copy of nested objects without the deepest key of a path that exists; `capabilities` itself
    stays, since it is required."""
    if not isinstance(value, dict) or not steps or steps[0] not in value:
        return value
    first, *others = steps
    inner = _without(value[first], others)
    if inner is not value[first]:
        return {**value, first: inner}
    if first == "capabilities":
        return value
    return {key: item for key, item in value.items() if key != first}


def _did_change(params: Json) -> Json:
    changes = params.get("contentChanges")
    repaired_params = {**params, "textDocument": _identifier(params.get("textDocument"))}
    if isinstance(changes, dict):
        changes = [changes]
    if isinstance(changes, list):
        repaired_params["contentChanges"] = [_change(change) for change in changes]
    return repaired_params


def _did_open(params: Json) -> Json:
    return {**params, "textDocument": _item(params.get("textDocument"))}


def _inline_completion(params: Json) -> Json:
    """Without a trigger, or with one of a later specification, the request is automatic."""
    given = params.get("context")
    context = {**given} if isinstance(given, dict) else {}
    kind = _whole(context.get("triggerKind"))
    known = type(kind) is int and kind in _TRIGGERS
    context["triggerKind"] = kind if known else lsp.InlineCompletionTriggerKind.Automatic.value
    selected = context.pop("selectedCompletionInfo", None)
    if isinstance(selected, dict) and isinstance(selected.get("text"), str):
        span = _range(selected.get("range"))
        if isinstance(span, dict):
            context["selectedCompletionInfo"] = {**selected, "range": span}
    return {**params, "context": context, "position": _position(params.get("position"))}


def _notebook_did_open(params: Json) -> Json:
    params = {**params, "notebookDocument": _identifier(params.get("notebookDocument"))}
    if isinstance(cells := params.get("cellTextDocuments"), list):
        params["cellTextDocuments"] = [_item(cell) for cell in cells]
    return params


def _notebook_did_change(params: Json) -> Json:
    document, change = params.get("notebookDocument"), params.get("change")
    cells = change.get("cells") if isinstance(change, dict) else None
    repaired_params = {**params, "notebookDocument": _identifier(document)}
    if not isinstance(cells, dict) or not isinstance(change, dict):
        return repaired_params
    cells = {**cells}
    structure, contents = cells.get("structure"), cells.get("textContent")
    if isinstance(structure, dict) and isinstance(opened := structure.get("didOpen"), list):
        cells["structure"] = {**structure, "didOpen": [_item(item) for item in opened]}
    if isinstance(contents, list):
        cells["textContent"] = [_content(content) for content in contents]
    return {**repaired_params, "change": {**change, "cells": cells}}


def _content(content: Any) -> Any:
    """One entry of a notebook's `textContent`."""
    if not isinstance(content, dict) or not isinstance(changes := content.get("changes"), list):
        return content
    document = _identifier(content.get("document"))
    return {**content, "document": document, "changes": [_change(change) for change in changes]}


def _initialize(params: Json) -> Json:
    params = {**params}
    if type(params.get("processId")) is not int:
        params["processId"] = None
    if not isinstance(params.get("rootPath"), str):
        params["rootPath"] = None
    if not _is_uri(params.get("rootUri")):
        params["rootUri"] = None
    if "capabilities" in params and params["capabilities"] is None:
        params["capabilities"] = {}
    params["workspaceFolders"] = _folders(params.get("workspaceFolders"))
    return params


def _did_change_folders(params: Json) -> Json:
    event = params.get("event")
    if not isinstance(event, dict):
        return params
    lists = {name: _folders(event.get(name)) or [] for name in ("added", "removed")}
    return {**params, "event": {**event, **lists}}


def _folders(folders: Any) -> list[Json] | None:
    """The workspace folders that have a URI, each with a name."""
    if not isinstance(folders, list):
        return None
    return [
        {"name": "", **{key: value for key, value in folder.items() if isinstance(value, str)}}
        for folder in folders
        if isinstance(folder, dict) and _is_uri(folder.get("uri"))
    ]


def _is_uri(uri: Any) -> bool:
    """Whether a value is text that can be taken apart as a URI: `file://[` cannot."""
    try:
        return isinstance(uri, str) and urlsplit(uri) is not None
    except ValueError:
        return False


def _item(document: Any) -> Any:
    """A `TextDocumentItem`. Without a language it is one that no rule knows."""
    if not isinstance(document, dict):
        return document
    item = {"languageId": "", **_identifier(document)}
    if not isinstance(item["languageId"], str):
        item["languageId"] = ""
    return item if isinstance(item.get("text"), str) else _invalid(item, "text")


def _identifier(document: Any) -> Any:
    """A document identifier with a version: UNVERSIONED if it names none."""
    if not isinstance(document, dict):
        return document
    version = _whole(document.get("version"))
    known = type(version) is int and -MAX_INT <= version <= MAX_INT
    repaired_document = {**document, "version": version if known else UNVERSIONED}
    uri = document.get("uri")
    return repaired_document if isinstance(uri, str) else _invalid(repaired_document, "uri")


def _change(change: Any) -> Any:
    """A content change. The deprecated `rangeLength` is not used."""
    if not isinstance(change, dict):
        return change
    change = {key: value for key, value in change.items() if key != "rangeLength"}
    if not isinstance(change.get("text"), str):
        return _invalid(change, "text")  # otherwise null becomes the text "None"
    if "range" in change and change["range"] is None:
        del change["range"]
    elif "range" in change:
        change["range"] = _range(change["range"])
    return change


def _range(span: Any) -> Any:
    if not isinstance(span, dict):
        return span
    return {**span, **{name: _position(span[name]) for name in ("start", "end") if name in span}}


def _position(position: Any) -> Any:
    if not isinstance(position, dict):
        return position
    return {name: _clamped(_whole(value)) for name, value in position.items()}


def _clamped(value: Any) -> Any:
    return min(value, MAX_UINT) if type(value) is int else value


def _whole(value: Any) -> Any:
    """A number that is written as 3.0 as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _invalid(value: Mapping[str, Any], name: str) -> Json:
    """The object without a field that has the wrong type, which makes it invalid."""
    return {key: item for key, item in value.items() if key != name}


_REPAIRS: dict[str, Callable[[Json], Json]] = {
    lsp.INITIALIZE: _initialize,
    lsp.TEXT_DOCUMENT_DID_OPEN: _did_open,
    lsp.TEXT_DOCUMENT_DID_CHANGE: _did_change,
    lsp.TEXT_DOCUMENT_INLINE_COMPLETION: _inline_completion,
    lsp.NOTEBOOK_DOCUMENT_DID_OPEN: _notebook_did_open,
    lsp.NOTEBOOK_DOCUMENT_DID_CHANGE: _notebook_did_change,
    lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: _did_change_folders,
}
