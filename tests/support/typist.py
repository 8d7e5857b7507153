"""A simulated user who types: a client-side document, synced change by change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from lsprotocol import types as lsp
from pytest_lsp import LanguageClient

AUTOMATIC = lsp.InlineCompletionTriggerKind.Automatic
INVOKED = lsp.InlineCompletionTriggerKind.Invoked

_UNIT = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}

Item = lsp.InlineCompletionItem
Asked = asyncio.Future[lsp.InlineCompletionList]


@dataclass
class Typist:
    """The client's document: `text` is its whole text, `cursor` an offset in it.

    Positions are computed independently of the server's functions.
    """

    client: LanguageClient
    encoding: str
    uri: str
    text: str
    cursor: int = 0
    version: int = 1
    language: str = "python"
    asked: list[Asked] = field(default_factory=list)

    def open(self) -> Typist:
        document = lsp.TextDocumentItem(self.uri, self.language, self.version, self.text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(document))
        return self

    def close(self) -> None:
        document = lsp.TextDocumentIdentifier(self.uri)
        self.client.text_document_did_close(lsp.DidCloseTextDocumentParams(document))

    def goto(self, before: str) -> Typist:
        """Move the cursor after the only occurrence of a text."""
        assert self.text.count(before) == 1
        self.cursor = self.text.index(before) + len(before)
        return self

    def position(self, offset: int | None = None) -> lsp.Position:
        head = self.text[: self.cursor if offset is None else offset]
        lines = head.replace("\r\n", "\n").split("\n")
        codec, width = _UNIT[self.encoding]
        return lsp.Position(len(lines) - 1, len(lines[-1].encode(codec)) // width)

    def replace(self, start: int, end: int, new: str) -> None:
        """Send an edit to the server; the cursor moves after the new text."""
        self.version += 1
        span = lsp.Range(self.position(start), self.position(end))
        change = lsp.TextDocumentContentChangePartial(range=span, text=new)
        document = lsp.VersionedTextDocumentIdentifier(self.version, self.uri)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [change]))
        self.text = self.text[:start] + new + self.text[end:]
        self.cursor = start + len(new)

    def type(self, text: str) -> None:
        """Send one change per character, each followed by a request that is not awaited, as in
        Neovim.
        """
        for character in text:
            self.replace(self.cursor, self.cursor, character)
            self.asked.append(self.ask())

    def backspace(self) -> None:
        self.replace(self.cursor - 1, self.cursor, "")

    def ask(self, kind: lsp.InlineCompletionTriggerKind = AUTOMATIC) -> Asked:
        """Send a request at the cursor; return the pending answer."""
        context = lsp.InlineCompletionContext(trigger_kind=kind)
        document = lsp.TextDocumentIdentifier(self.uri)
        params = lsp.InlineCompletionParams(context, document, self.position())
        method = lsp.TEXT_DOCUMENT_INLINE_COMPLETION
        return asyncio.wrap_future(self.client.protocol.send_request(method, params))

    async def complete(self, kind: lsp.InlineCompletionTriggerKind = AUTOMATIC) -> list[Item]:
        """Request a completion at the cursor; return its items."""
        answer = await self.ask(kind)
        assert isinstance(answer, lsp.InlineCompletionList), "never null, never a bare list"
        return list(answer.items)

    def accept(self, item: lsp.InlineCompletionItem) -> None:
        """Insert a suggestion at its range, as an editor does."""
        assert isinstance(item.insert_text, str)
        assert item.range == lsp.Range(self.position(), self.position()), "empty, at the cursor"
        self.replace(self.cursor, self.cursor, item.insert_text)
