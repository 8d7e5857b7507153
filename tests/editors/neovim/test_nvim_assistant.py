"""Edits by instruction, and questions, typed in a real Neovim against the real server."""

from __future__ import annotations

import pytest
from editor import SCRIPTED
from test_nvim_next_edit import MARKS

TEXT = "x = 1\ny = x\n\n\nprint(x)\nlast = '🎉'; x\n"

ASSISTANT = ["env", "SCRIPTED_ASSISTANT=yes", *SCRIPTED]
WEAK = ["env", "SCRIPTED_ASSISTANT=it is too small; choose a larger one", *SCRIPTED]

NOTES = """
_G.notes = {}
vim.notify = function(text) table.insert(_G.notes, text) end
vim.ui.input = function(options, answered) answered(_G.typed) end
_G.typed = ...
"""


@pytest.fixture
def editor(start):
    return opened(start)


def opened(start, command=ASSISTANT):
    editor = start(command, fresh=True)
    editor.open(TEXT)
    editor.ready()
    editor.lua("vim.g.fim_enabled = false")
    editor.lua(NOTES, None)
    return editor


def under_review(editor) -> bool:
    return bool(editor.lua("return require('fim.next_edit').visible()"))


def edited(editor, command: str) -> None:
    editor.nvim.command(command)
    editor.wait(lambda: under_review(editor), "a review")


def test_hunks_are_accepted_and_refused_one_by_one(editor):
    edited(editor, "%FimEdit x zed")
    assert editor.cursor() == (1, 0)
    shown = [mark[3] for mark in editor.lua(MARKS) if mark[3]]
    assert shown == ["zed"] * 4, "all hunks are shown at once"
    editor.type("y")
    assert editor.text() == "zed = 1\ny = zed\n\n\nprint(x)\nlast = '🎉'; x"
    assert editor.cursor()[0] == 5, "at the next hunk"
    editor.type("n")
    assert not under_review(editor)
    assert editor.text().endswith("print(x)\nlast = '🎉'; x")
    editor.type("yyp")
    assert editor.text().count("print(x)") == 2, "the keys are Neovim's again"
    editor.type("u")
    editor.type("u")
    assert editor.text() + "\n" == TEXT, "a hunk is one step of undo"


def test_all_or_none(editor):
    edited(editor, "1,6Fim edit x zed")
    editor.type("q")
    assert editor.text() + "\n" == TEXT
    edited(editor, "1,6Fim edit x zed")
    editor.type("a")
    assert editor.text() + "\n" == TEXT.replace("x", "zed")
    assert not under_review(editor)
    editor.type("u")
    assert editor.text() + "\n" == TEXT, "all are one step of undo"


def test_without_an_argument_it_is_asked_for(editor):
    editor.lua("_G.typed = 'x zed'")
    editor.nvim.current.window.cursor = (5, 0)
    edited(editor, "FimEdit")
    editor.type("y")
    assert editor.text() == "x = 1\ny = x\n\n\nprint(zed)\nlast = '🎉'; x", "the cursor's line"


def test_a_selection_by_the_code_action(editor):
    editor.lua("_G.typed = 'x zed'")
    editor.type("ggVj")
    editor.lua(
        """
        vim.lsp.buf.code_action({
          apply = true,
          filter = function(action) return action.title == 'Edit with instruction…' end,
        })
        """
    )
    editor.wait(lambda: under_review(editor), "a review")
    editor.type("<Esc>y")
    assert editor.text() == "zed = 1\ny = zed\n\n\nprint(x)\nlast = '🎉'; x"


def test_typing_ends_the_review(editor):
    edited(editor, "%FimEdit x zed")
    editor.type("Go# more<Esc>")
    editor.wait(lambda: not under_review(editor), "no review")
    assert editor.text() + "\n" == TEXT + "# more\n"


def test_a_proposal_of_the_server_waits_for_the_review(editor):
    edited(editor, "%FimEdit x zed")
    editor.lua(
        """
        local client = require('fim.status').client()
        client.handlers['fim/nextEdit'](nil, { edits = {} }, { client_id = client.id })
        """
    )
    assert under_review(editor)


def test_what_is_wrong_is_said(start):
    editor = opened(start, WEAK)
    editor.nvim.command("%FimEdit x zed")
    editor.wait(lambda: editor.lua("return _G.notes[1]"), "a message")
    assert editor.lua("return _G.notes") == ["fim: it is too small; choose a larger one"]
    assert not under_review(editor)


def test_nothing_to_change_is_said(editor):
    editor.nvim.command("%FimEdit nothing here")
    editor.wait(lambda: "leave these lines as they are" in editor.messages(), "a message")


def test_a_secret_file_is_not_shown_to_the_model(editor):
    editor.open("x = 'secret'\n", "keys.env")
    editor.wait(lambda: editor.lua("return require('fim.status').client() ~= nil"), "a client")
    editor.nvim.command("Fim ask what is this?")
    editor.wait(lambda: "is not shown to the model" in editor.text(), "a refusal")
    editor.type("q")
    editor.nvim.command("%FimEdit x zed")
    editor.wait(lambda: editor.lua("return _G.notes[1]"), "a message")
    assert "keys.env is not shown to the model" in editor.lua("return _G.notes[1]")


def test_an_answer_s_block_becomes_a_diff(editor):
    editor.nvim.command("1,2Fim ask block x = 1\ny = 2".replace("\n", " "))
    editor.wait(lambda: "```" in editor.text(), "an answer")
    assert editor.nvim.current.buffer.options["buftype"] == "nofile"
    [asked] = editor.sent("fim/ask")
    assert asked["params"]["range"]["end"] == {"line": 2, "character": 0}
    assert "## You\n\nblock x = 1 y = 2\n\n## fim\n\nHere:\n```python" in editor.text()
    editor.type("?x = 1<CR><CR>")
    editor.wait(lambda: under_review(editor), "a review")
    assert editor.nvim.current.buffer.name.endswith("code.py")
    editor.type("a")
    assert editor.text().startswith("x = 1 y = 2\n\n\nprint")


def test_a_conversation_goes_on_and_ends(editor):
    editor.nvim.command("Fim ask why?")
    editor.wait(lambda: "You said:" in editor.text(), "an answer")
    editor.lua("_G.typed = 'and now?'")
    editor.type("i")
    editor.wait(lambda: editor.text().endswith("You said: and now?"), "an answer")
    messages = editor.sent("fim/ask")[-1]["params"]["messages"]
    assert [said["role"] for said in messages] == ["user", "assistant", "user"]
    editor.type("q")
    assert editor.nvim.current.buffer.name.endswith("code.py")
    assert len(editor.nvim.windows) == 1
