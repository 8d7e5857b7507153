"""What editors tell of the suggestions they were given, in Copilot's messages.

An item carries a command that the editor runs when it is accepted; the command's name is unique to
this process, because in VS Code command names are global. Clients send items back as they got them.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from lsprotocol import types as lsp

from fim_server.completion.statistics import Statistics

DID_SHOW = "textDocument/didShowCompletion"
DID_PARTIALLY_ACCEPT = "textDocument/didPartiallyAcceptCompletion"
DID_FOCUS = "textDocument/didFocus"

MOST_ITEMS = 256
"""Items that are remembered; what is reported of older ones is not counted."""


class Feedback:
    """Counts shown, accepted and partly accepted items, each once."""

    def __init__(self, statistics: Statistics) -> None:
        self.accept_command = f"fim-server.accept.{secrets.token_hex(6)}"
        self._statistics = statistics
        self._lengths: OrderedDict[str, int] = OrderedDict()
        self._told: set[tuple[str, str]] = set()
        self._partly: dict[str, int] = {}
        self._numbers = 0

    def mark(self, items: Iterable[lsp.InlineCompletionItem]) -> None:
        """Give items the command that tells of their acceptance."""
        if not self._statistics.enabled:
            return
        for item in items:
            self._numbers += 1
            name = str(self._numbers)
            text = item.insert_text
            self._lengths[name] = _utf16(text if isinstance(text, str) else text.value)
            item.command = lsp.Command("Accept", self.accept_command, arguments=[name])
            if len(self._lengths) > MOST_ITEMS:
                self._forget(self._lengths.popitem(last=False)[0])

    def shown(self, params: object) -> None:
        """`didShowCompletion {item}`."""
        name = self._named(params)
        if name and self._first("shown", name):
            self._statistics.count("shown")

    def partly_accepted(self, params: object) -> None:
        """`didPartiallyAcceptCompletion {item, acceptedLength}`, in UTF-16 units from the start."""
        name, length = self._named(params), getattr(params, "acceptedLength", None)
        if not name or type(length) is not int:
            return
        length = max(0, min(length, self._lengths[name]))
        if self._first("partly_accepted", name):
            self._statistics.count("partly_accepted")
        self._characters(name, length)

    def accepted(self, name: object) -> None:
        """The accept command with its argument."""
        if isinstance(name, str) and name in self._lengths and self._first("accepted", name):
            self._statistics.count("accepted")
            self._characters(name, self._lengths[name])

    def _characters(self, name: str, length: int) -> None:
        """Count what is accepted beyond what was already."""
        before = self._partly.get(name, 0)
        if length > before:
            self._partly[name] = length
            self._statistics.count("characters", length - before)

    def _first(self, what: str, name: str) -> bool:
        new = (what, name) not in self._told
        self._told.add((what, name))
        return new

    def _named(self, params: object) -> str | None:
        """The name in `params.item.command.arguments[0]`, if it is one of ours."""
        command = getattr(getattr(params, "item", None), "command", None)
        arguments: Any = getattr(command, "arguments", None)
        name = arguments[0] if isinstance(arguments, list) and arguments else None
        return name if isinstance(name, str) and name in self._lengths else None

    def _forget(self, name: str) -> None:
        self._partly.pop(name, None)
        self._told = {(what, one) for what, one in self._told if one != name}


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
