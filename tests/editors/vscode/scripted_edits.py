"""The real language server with a scripted backend that also pushes scripted edits.

The server's own next edits are off, so that tests of the extension control what is proposed. A line
`# rename OLD NEW!` in the document triggers one notification with edits that replace every other
OLD. Each edit carries a command, by which a test sees that it was accepted.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from scripted import ScriptedBackend  # noqa: E402

from fim_server.lsp.app import build_server, claim_stdout  # noqa: E402
from fim_server.lsp.server import FimServer  # noqa: E402
from fim_server.settings.settings import Settings  # noqa: E402
from fim_server.settings.sources import SettingsSources  # noqa: E402

ORDER = re.compile(r"# rename (\w+) (\w+)!")


def edits(text: str, uri: str, version: int) -> list[dict[str, Any]]:
    """One edit per OLD, from the top down, with UTF-16 positions of ASCII text."""
    order = ORDER.search(text)
    if order is None:
        return []
    old, new = order.groups()
    found = []
    for number, line in enumerate(text.split("\n")):
        if not ORDER.search(line):
            found += [(number, match.start()) for match in re.finditer(rf"\b{old}\b", line)]
    return [
        {
            "textDocument": {"uri": uri, "version": version},
            "range": {
                "start": {"line": line, "character": start},
                "end": {"line": line, "character": start + len(old)},
            },
            "text": new,
            "command": {"title": "accepted", "command": "fim.test.accepted", "arguments": [index]},
        }
        for index, (line, start) in enumerate(found)
    ]


def main() -> int:
    server = build_server(
        SettingsSources(Settings(next_edits=False)), lambda settings: ScriptedBackend()
    )
    features = server.protocol.fm.features
    take_change = features[lsp.TEXT_DOCUMENT_DID_CHANGE]
    proposed: set[str] = set()

    def did_change(params: lsp.DidChangeTextDocumentParams) -> None:
        take_change(params)
        uri = params.text_document.uri
        snapshot = server.documents.snapshot(uri)
        found = edits(snapshot.text, uri, params.text_document.version) if snapshot else []
        if found and uri not in proposed:
            proposed.add(uri)
            server.protocol.notify("fim/nextEdit", {"edits": found})

    features[lsp.TEXT_DOCUMENT_DID_CHANGE] = did_change

    @server.command("fim.test.accepted")
    def accepted(ls: FimServer, index: int) -> None:
        """No-op: the recorder in front of this server has logged the request."""

    server.start_io(sys.stdin.buffer, claim_stdout())
    return 0


if __name__ == "__main__":
    sys.exit(main())
