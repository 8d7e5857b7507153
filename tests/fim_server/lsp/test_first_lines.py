"""Who begins an ordinary file with default settings sees a suggestion within three lines, unasked.

The real server with the model that ships; whether it is right is not tested.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_lsp
from lsprotocol import types as lsp
from pytest_lsp import ClientServerConfig, LanguageClient
from typist import Typist

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = [sys.executable, "-m", "fim_server", "lsp", "--in-process"]

LANGUAGES = {"py": "python", "ts": "typescript", "go": "go", "lua": "lua"}
BEGINNINGS = {
    "shop.py": (
        "import json\nfrom dataclasses import dataclass\n",
        "\n\n@dataclass\nclass Item:\n    name: str\n",
    ),
    "cart.ts": (
        "export interface Item {\n  name: string\n",
        "  price: number\n}\n\nexport interface Cart {\n",
    ),
    "main.go": (
        'package main\n\nimport (\n\t"fmt"\n',
        '\t"os"\n)\n\nfunc main() {\n\tfmt.Println(',
    ),
    "init.lua": (
        'local config = require("app.config")\nlocal view = require("app.view")\n',
        'local state = require("app.state")\nlocal util = require("app.util")\n\n',
    ),
}
"""Two lines or more that stand there, and what is typed then."""


@pytest_lsp.fixture(config=ClientServerConfig(server_command=SERVER), scope="module")
async def client(lsp_client: LanguageClient) -> AsyncIterator[None]:
    """A client with default settings, connected to a server whose model is loaded."""
    encodings = [lsp.PositionEncodingKind.Utf32]
    await lsp_client.initialize_session(
        lsp.InitializeParams(
            capabilities=lsp.ClientCapabilities(
                general=lsp.GeneralClientCapabilities(position_encodings=encodings),
                window=lsp.WindowClientCapabilities(work_done_progress=True),
            ),
        )
    )
    async with asyncio.timeout(120):
        while not any(
            values and isinstance(values[-1], lsp.WorkDoneProgressEnd)
            for values in lsp_client.progress_reports.values()
        ):
            await lsp_client.wait_for_notification(lsp.PROGRESS)
    yield
    await lsp_client.shutdown_session()


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_a_suggestion_is_shown_within_three_lines(client: LanguageClient, name: str) -> None:
    there, typed = BEGINNINGS[name]
    uri, language = f"file:///project/{name}", LANGUAGES[name.partition(".")[2]]
    typist = Typist(client, "utf-32", uri, there, cursor=len(there), language=language).open()
    lines = 0
    for character in typed:
        typist.replace(typist.cursor, typist.cursor, character)
        lines += character == "\n" and not typist.text.endswith("\n\n")
        assert lines < 3, f"nothing was shown while {typed!r} was typed"
        if character != "\n" and await typist.complete():
            return
    pytest.fail(f"nothing was shown while {typed!r} was typed")
