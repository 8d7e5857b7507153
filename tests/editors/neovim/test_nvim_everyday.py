"""What a person does besides typing: pairs that close themselves, snoozing, choosing, the tour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from editor import PLUGIN, ROOT, Editor
from pynvim.api.common import NvimError

Start = Callable[..., Editor]

# How popular plugins close pairs: nvim-autopairs and mini.pairs by an expression that inserts both
# and moves back within one undo step; the Vim wiki by a mapping; others when a character is typed.
PAIRS = {
    "expression": """
        local function open() return '()<C-g>U<Left>' end
        local function close()
          local col = vim.fn.col('.')
          return vim.fn.getline('.'):sub(col, col) == ')' and '<C-g>U<Right>' or ')'
        end
        vim.keymap.set('i', '(', open, { expr = true, replace_keycodes = true, buffer = true })
        vim.keymap.set('i', ')', close, { expr = true, replace_keycodes = true, buffer = true })
    """,
    "mapping": "vim.keymap.set('i', '(', '()<Left>', { buffer = true })",
    "typed": """
        vim.api.nvim_create_autocmd('InsertCharPre', { buffer = 0, callback = function()
          if vim.v.char == '(' then
            vim.v.char = '()'
            vim.schedule(function() vim.api.nvim_feedkeys(vim.keycode('<Left>'), 'n', false) end)
          end
        end })
    """,
}


@pytest.mark.parametrize("pairs", PAIRS)
def test_ghost_text_stands_inside_a_bracket_that_closed_itself(start: Start, pairs: str) -> None:
    editor = start()
    editor.open("\n", f"pairs_{pairs}.py")
    editor.ready()
    editor.lua(PAIRS[pairs])
    editor.type("iprint(")
    assert editor.line() == "print()"
    ghost = editor.wait_for_ghost()
    assert ghost.text.startswith("[")
    assert (ghost.row, ghost.col) == (0, len("print("))
    editor.lua("require('fim').accept()")
    editor.settle()
    editor.wait(lambda: editor.line() == f"print({ghost.text})", "the text inside the bracket")
    if pairs == "expression":
        editor.type(")")
        assert editor.line() == f"print({ghost.text})", "typed over, not doubled"


def test_snoozed_nothing_is_asked_until_it_is_requested_by_key(start: Start) -> None:
    editor = start()
    editor.open("\n", "snooze.py")
    editor.ready()
    editor.nvim.command("Fim snooze 5")
    asked = len(editor.sent("textDocument/inlineCompletion"))
    editor.type("i#say hello")
    editor.lua("vim.wait(400)")
    assert editor.ghost() is None
    assert len(editor.sent("textDocument/inlineCompletion")) == asked
    assert "snoozed until" in editor.why()
    assert editor.lua("return require('fim.status').get().state") == "paused"
    editor.lua("require('fim').trigger()")
    editor.wait_for_ghost("hello")
    editor.type("<Esc>")
    editor.nvim.command("Fim snooze off")
    editor.type("A!")
    editor.wait_for_ghost("hello!")
    editor.type("<Esc>")


@pytest.mark.parametrize("scope", ["buffer", "filetype"])
def test_snoozing_a_buffer_or_a_file_type_leaves_the_others(start: Start, scope: str) -> None:
    editor = start()
    editor.open("\n", f"other_{scope}.js")
    editor.open("\n", f"this_{scope}.py")
    editor.ready()
    editor.nvim.command(f"Fim snooze {scope}")
    editor.type("i#say hello")
    editor.lua("vim.wait(400)")
    assert editor.ghost() is None
    editor.type("<Esc>")
    editor.nvim.command(f"edit {editor.folder}/other_{scope}.js")
    editor.type("i#say hello")
    editor.wait_for_ghost("hello")
    editor.type("<Esc>")
    editor.nvim.command("Fim snooze off")


@pytest.mark.parametrize("bad", ["-3", "0", "soon"])
def test_a_wrong_time_is_told(start: Start, bad: str) -> None:
    editor = start()
    editor.open("\n", "bad.py")
    with pytest.raises(NvimError, match=f"MINUTES, or buffer, filetype, off; not {bad}"):
        editor.nvim.command(f"Fim snooze {bad}")


def test_alternatives_stand_side_by_side_and_a_number_accepts_one(start: Start) -> None:
    editor = start()
    editor.open("\n", "several.py")
    editor.ready()
    editor.type("i#say value")
    editor.wait_for_ghost("value")
    editor.lua("require('fim').alternatives()")
    floats = """return vim.tbl_filter(function(window)
        return vim.api.nvim_win_get_config(window).relative ~= ''
      end, vim.api.nvim_list_wins())"""
    editor.wait(lambda: len(editor.lua(floats)) == 3, "three windows")
    columns = editor.lua(
        f"return vim.tbl_map(vim.api.nvim_win_get_position, (function() {floats} end)())"
    )
    assert len({row for row, _ in columns}) == 1, "side by side"
    assert len({column for _, column in columns}) == 3
    assert editor.line() == "#say valuevalue", "the first one, in the first window"
    editor.type("2")
    assert editor.line() == "#say valuevalue 2"
    assert editor.lua(floats) == []
    assert editor.cursor() == (1, len("#say valuevalue 2"))
    editor.type("<Esc>")


def test_escape_closes_the_alternatives_and_changes_nothing(start: Start) -> None:
    editor = start()
    editor.open("#say value\n", "escape.py")
    editor.ready()
    editor.type("$")
    editor.nvim.command("Fim alternatives")
    editor.wait(lambda: len(editor.nvim.windows) == 4, "three windows beside the buffer's")
    assert editor.line() == "#say valuevalue"
    editor.type("<Esc>")
    assert len(editor.nvim.windows) == 1
    assert editor.text() == "#say value"


def test_why_is_told_in_words(start: Start) -> None:
    editor = start()
    editor.open("\n", "empty.py")
    editor.ready()
    editor.type("i")
    editor.lua("require('fim').trigger()")
    editor.wait(lambda: "the document is empty" in editor.why(), "the reason")
    editor.type("<Esc>")
    editor.nvim.command("Fim why")
    assert "the document is empty; type the first line" in editor.messages()


def test_what_was_accepted_is_counted(start: Start) -> None:
    editor = start()
    editor.open("\n", "count.py")
    editor.ready()
    editor.type("i#say hello")
    editor.wait_for_ghost("hello")
    editor.lua("require('fim').accept()")
    editor.wait(lambda: editor.line() == "#say hellohello", "the text")
    editor.type("<Esc>")

    def told() -> bool:
        editor.nvim.command("Fim stats")
        editor.settle()
        return "accepted today: " in editor.messages()

    editor.wait(told, "the counts")


def test_the_tour_ticks_off_what_was_done(start: Start) -> None:
    editor = start()
    editor.open("x = 1\n", "before.py")
    editor.ready()
    editor.nvim.command("Fim tour")
    editor.settle()
    assert editor.line() == "            raise "
    editor.wait(lambda: editor.ghost() is not None, "ghost text at the sample's end")
    editor.wait(lambda: editor.lua("return require('fim.tour').done()") == [1], "the first step")
    word = editor.ghost()
    assert word is not None
    editor.type("<M-w>")
    editor.wait(lambda: 2 in editor.lua("return require('fim.tour').done()"), "the second step")
    assert editor.line().startswith("            raise [")
    steps = "\n".join(
        line
        for buffer in editor.nvim.buffers
        for line in buffer[:]
        if "accepts its next word" in line
    )
    assert steps.startswith("[x] 2. <M-w> accepts its next word")
    editor.type("<Esc>")
    editor.nvim.command("tabclose!")


def test_the_tours_sample_is_the_same_in_both_editors() -> None:
    ours = (PLUGIN / "tour" / "sample.py").read_text()
    assert ours == Path(ROOT / "editors/vscode/media/tour.py").read_text()
