"""The real server process with the model that ships: next edits after a rename."""

from __future__ import annotations

import json
import sys

import pytest
from fim_model.loading.checkpoint import default_checkpoint
from raw_client import raw_client

URI = "file:///project/orders.py"
SERVER = [sys.executable, "-m", "fim_server", "lsp"]
OPTIONS = {"backend": "in_process", "threads": 1, "minEditGain": 0}
CODE = """\
def total_price(items, discount):
    price = 0
    for item in items:
        price += item.cost
    price -= discount
    return price
"""


@pytest.mark.timeout(240)
async def test_the_other_occurrences_of_a_renamed_parameter() -> None:
    trained = json.loads((default_checkpoint() / "config.json").read_text()).get("fim_edits", False)
    async with raw_client(SERVER) as client:
        await client.initialize(OPTIONS, window={"workDoneProgress": True})
        assert (await client.progress_end())["message"] == "Ready"
        client.open(URI, CODE)
        client.change(URI, 2, (0, 23), (0, 31), "rebate")
        params = {
            "textDocument": {"uri": URI, "version": 2},
            "position": {"line": 4, "character": 0},
        }
        edits = (await client.ask("textDocument/copilotInlineEdit", params))["edits"]
        assert len(edits) <= 1
        if trained:
            assert [edit["range"]["start"]["line"] for edit in edits] == [4]
            assert edits[0]["text"] == "rebate"
        for edit in edits:
            start, end = edit["range"]["start"], edit["range"]["end"]
            assert 0 <= start["line"] <= end["line"] <= CODE.count("\n")
            assert edit["textDocument"] == {"uri": URI, "version": 2}
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr
