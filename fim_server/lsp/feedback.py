"""Feedback from editors on suggestions, in the messages of Copilot's protocol.

Each item carries a command that the editor runs when the item is accepted. The command's name is
unique to this process, because VS Code's command names are global. Clients return items unchanged.
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

STATISTICS = "fim/statistics"
"""A request of ours: the counts of `today` and in `total`, for editors to show."""

MAX_ITEMS = 256
"""Maximum number of items remembered; feedback on older ones is ignored."""


class Feedback:
    """Counts shown, accepted and partly accepted items, each item once."""

    def __init__(self, statistics: Statistics) -> None:
        self.accept_command = f"fim-server.accept.{secrets.token_hex(6)}"
        self._statistics = statistics
        self._lengths: OrderedDict[str, int] = OrderedDict()
        self._counted: set[tuple[str, str]] = set()
        self._accepted_lengths: dict[str, int] = {}
        self._last_name = 0

    def mark(self, items: Iterable[lsp.InlineCompletionItem]) -> None:
        """Attach to each item the command that reports its acceptance."""
        if not self._statistics.enabled:
            return
        for item in items:
            self._last_name += 1
            name = str(self._last_name)
            text = item.insert_text
            self._lengths[name] = _utf16(text if isinstance(text, str) else text.value)
            item.command = lsp.Command("Accept", self.accept_command, arguments=[name])
            if len(self._lengths) > MAX_ITEMS:
                self._forget(self._lengths.popitem(last=False)[0])

    def shown(self, params: object) -> None:
        """`didShowCompletion {item}`: count the item as shown."""
        name = self._named(params)
        if name and self._is_first("shown", name):
            self._statistics.count("shown")

    def partly_accepted(self, params: object) -> None:
        """`didPartiallyAcceptCompletion {item, acceptedLength}`: count the accepted characters.

        The length is in UTF-16 code units from the start of the item.
        """
        name, length = self._named(params), getattr(params, "acceptedLength", None)
        if not name or type(length) is not int:
            return
        length = max(0, min(length, self._lengths[name]))
        if self._is_first("partly_accepted", name):
            self._statistics.count("partly_accepted")
        self._characters(name, length)

    def accepted(self, name: object) -> None:
        """The accept command with the item's name as its argument."""
        if isinstance(name, str) and name in self._lengths and self._is_first("accepted", name):
            self._statistics.count("accepted")
            self._characters(name, self._lengths[name])

    def _characters(self, name: str, length: int) -> None:
        """Count the characters accepted beyond those counted before."""
        before = self._accepted_lengths.get(name, 0)
        if length > before:
            self._accepted_lengths[name] = length
            self._statistics.count("characters", length - before)

    def _is_first(self, what: str, name: str) -> bool:
        new = (what, name) not in self._counted
        self._counted.add((what, name))
        return new

    def _named(self, params: object) -> str | None:
        """The name in `params.item.command.arguments[0]`; None if it is unknown."""
        command = getattr(getattr(params, "item", None), "command", None)
        arguments: Any = getattr(command, "arguments", None)
        name = arguments[0] if isinstance(arguments, list) and arguments else None
        return name if isinstance(name, str) and name in self._lengths else None

    def _forget(self, name: str) -> None:
        self._accepted_lengths.pop(name, None)
        self._counted = {(what, item) for what, item in self._counted if item != name}


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
