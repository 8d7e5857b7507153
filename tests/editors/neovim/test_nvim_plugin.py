"""The plugin around ghost text: menus, keys, commands, health, and server crashes."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from editor import PLUGIN

ASKING = "textDocument/inlineCompletion"


def showing(start, **options):
    """An editor that shows the ghost text `value`."""
    editor = start(**options)
    editor.open("#say value")
    editor.ready()
    editor.type("A")
    editor.wait_for_ghost("value")
    return editor


def status(editor):
    return editor.lua("return require('fim.status').get()")


def test_enabling_the_client_suffices_without_setup(start):
    editor = start(fresh=True, setup=False)
    editor.lua("vim.lsp.config('fim', { cmd = ... }) vim.lsp.enable('fim')", editor.cmd)
    editor.open("#say value")
    editor.ready()
    editor.type("A")
    editor.wait_for_ghost("value")
    assert editor.lua("return require('fim').accept()") is True
    editor.wait(lambda: editor.text() == "#say valuevalue", "accepted")


def test_no_keys_are_mapped_by_default(start):
    editor = start(fresh=True, setup=False)
    keys = "return vim.tbl_map(function(key) return key.mode .. key.lhs end, vim.fn.maplist())"
    before = editor.lua(keys)
    editor.setup()
    assert editor.lua(keys) == before


def test_the_built_in_menu_hides_ghost_text(start):
    editor = showing(start)
    editor.nvim.command("set completeopt=menuone,noinsert,noselect")
    editor.lua("vim.fn.complete(vim.fn.col('.'), { 'one', 'two' })")
    editor.wait_for_no_ghost()
    assert "menu" in editor.why()
    editor.type("<C-e>")
    editor.wait_for_ghost("value")


def test_the_menu_of_blink_hides_ghost_text(start):
    editor = showing(start)
    editor.nvim.command("doautocmd User BlinkCmpMenuOpen")
    editor.wait_for_no_ghost()
    assert editor.lua("return require('fim').accept()") is False
    editor.type("v")
    editor.lua("vim.wait(400)")
    assert editor.ghost() is None
    editor.nvim.command("doautocmd User BlinkCmpMenuClose")
    editor.wait_for_ghost("alue")


def test_the_menu_of_nvim_cmp_hides_ghost_text(start):
    editor = showing(start, fresh=True)
    # nvim-cmp's public event object; many users load the plugin only on typing.
    editor.lua("""
      local listeners = {}
      package.loaded['cmp'] = { event = {
        on = function(_, name, listener) listeners[name] = listener end,
        emit = function(_, name) listeners[name]() end,
      } }
    """)
    editor.type("v")
    editor.wait_for_ghost("alue")
    editor.lua("require('cmp').event:emit('menu_opened')")
    editor.wait_for_no_ghost()
    editor.lua("require('cmp').event:emit('menu_closed')")
    editor.wait_for_ghost("alue")


def test_leaving_insert_mode_clears_an_unreported_menu(start):
    editor = showing(start)
    editor.nvim.command("doautocmd User BlinkCmpMenuOpen")
    editor.wait_for_no_ghost()
    editor.type("<Esc>A")  # no event reports that the menu closed
    editor.wait_for_ghost("value")


def test_ghost_text_beside_a_menu_is_an_option(start):
    editor = showing(start, hide_with_menu=False)
    editor.nvim.command("doautocmd User BlinkCmpMenuOpen")
    editor.settle()
    assert editor.ghost().text == "value"


def test_configured_keys(start):
    editor = showing(start, keys={"accept": "<C-l>", "accept_word": "<M-l>", "dismiss": "<C-]>"})
    editor.type("<C-]>")
    assert editor.ghost() is None
    editor.type("<BS>")
    editor.wait_for_ghost("valu")
    editor.type("<M-l>")
    editor.wait(lambda: editor.line() == "#say valuvalu", "accepted")


@pytest.mark.parametrize(
    "earlier",
    [
        "inoremap <Tab> #tab",
        "inoremap <expr> <Tab> '#t' .. 'ab'",
        "inoremap <Tab> <Cmd>norm! a#tab<CR>",
    ],
)
def test_tab_accepts_or_falls_back_to_the_earlier_mapping(start, earlier):
    editor = start(fresh=True)
    editor.nvim.command(earlier)
    editor.setup(keys={"tab": "<Tab>"})
    editor.setup(keys={"tab": "<Tab>"})  # twice: the fallback is still the user's own mapping
    editor.open("#say value")
    editor.ready()
    editor.type("A")
    editor.wait_for_ghost("value")
    editor.type("<Tab>")
    editor.wait(lambda: editor.line() == "#say valuevalue", "accepted")
    editor.lua("require('fim').toggle()")
    editor.type("<Tab>")
    assert editor.line() == "#say valuevalue#tab"


def test_tab_advances_in_a_snippet_and_a_menu(start):
    editor = start(fresh=True, keys={"tab": "<Tab>"})
    editor.open("")
    editor.lua("vim.g.fim_enabled = false")
    editor.type("i<Cmd>lua vim.snippet.expand('f($1, $2)')<CR>a<Tab>b")
    assert editor.line() == "f(a, b)"
    editor.type("<Esc>cc")
    editor.lua("vim.fn.complete(1, { 'one', 'two' })")
    editor.type("<Tab>")
    assert editor.line() == "two"
    editor.nvim.command("setlocal noexpandtab")
    editor.type("<Esc>ccx<Tab>")
    assert editor.line() == "x\t"


def test_a_killed_server_is_restarted(start):
    editor = showing(start, fresh=True)
    first = editor.server_pid()
    os.kill(first, signal.SIGKILL)
    editor.wait(lambda: editor.server_pid() != first, "another server")
    editor.wait(lambda: editor.ghost() is None or editor.server_pid() != first, "no stale ghost")
    editor.ready()
    editor.type("<Esc>A")
    editor.wait_for_ghost("value")
    editor.lua("require('fim').accept()")
    editor.wait(lambda: editor.line() == "#say valuevalue", "accepted")


def test_a_server_that_keeps_crashing_is_not_restarted(start):
    editor = start(fresh=True, setup=False)
    editor.cmd = ["sh", "-c", "exit 3"]
    editor.setup()
    editor.nvim.command(f"edit {editor.folder / 'code.py'}")
    editor.wait(lambda: status(editor)["state"] == "error", "an end to it")
    assert "exit code 3" in status(editor)["message"]
    assert ":Fim restart" in editor.messages()


def test_restart_and_model_commands(start, tmp_path):
    editor = showing(start, fresh=True)
    first = editor.server_pid()
    editor.nvim.command("Fim restart")
    editor.wait(lambda: editor.server_pid() != first, "another server")
    editor.ready()
    second = editor.server_pid()
    editor.nvim.command(f"Fim model {tmp_path}")
    editor.wait(lambda: editor.server_pid() != second, "a third server")
    editor.wait(lambda: len(editor.sent("initialize")) == 3, "its start")
    options = editor.sent("initialize")[-1]["params"]["initializationOptions"]
    assert options == {"nextEdits": False, "model": str(tmp_path)}
    editor.ready()
    assert status(editor)["model"] == str(tmp_path)
    editor.type("<Esc>A")
    editor.wait_for_ghost("value")


def test_the_status_command(start):
    editor = showing(start)
    said = editor.nvim.command_output("Fim status")
    assert "fim: ready" in said
    assert "model: the one that ships" in said
    assert "last answer:" in said
    assert "a suggestion is shown" in editor.nvim.command_output("Fim why")
    editor.type("<Esc>")
    assert "was shown until insert mode ended" in editor.nvim.command_output("Fim why")
    assert editor.lua("return vim.fn.getcompletion('Fim ', 'cmdline')") == [
        "alternatives", "ask", "edit", "log", "menu", "model", "restart", "settings", "snooze",
        "stats", "status", "toggle", "tour", "why",
    ]  # fmt: skip
    editor.type(":Fim nonsense<CR>")
    assert "nonsense is unknown; say one of alternatives, ask, edit, log, menu" in editor.messages()


def test_why_names_an_empty_answer(start):
    editor = start()
    editor.open("#say ")
    editor.ready()
    editor.type("A")
    editor.wait(lambda: [] in editor.answers(), "an empty answer")
    editor.wait(lambda: "nothing to put between" in editor.why(), "the reason")


def test_status_is_ready_when_the_model_is_loaded(start, monkeypatch):
    monkeypatch.setenv("SCRIPTED_LOADS_FOR", "1")
    editor = start(fresh=True)
    editor.open("#say value")
    seen = []
    editor.wait(lambda: seen.append(status(editor)["state"]) or seen[-1] == "ready", "ready")
    assert set(seen) <= {"off", "starting", "loading", "ready"}
    assert "loading" in seen
    editor.type("A")
    editor.wait_for_ghost("value")
    assert editor.answers() == [["value"]]


def test_why_names_a_missing_model(start, monkeypatch):
    monkeypatch.setenv("SCRIPTED_LOAD_PROBLEM", "no model in the folder; see the README")
    editor = start(fresh=True)
    editor.open("x")
    editor.wait(lambda: status(editor)["state"] == "error", "the error")
    assert "no model in the folder; see the README" in status(editor)["message"]


def test_checkhealth(start):
    editor = showing(start)
    editor.type("<Esc>")
    editor.nvim.command("checkhealth fim")
    report = editor.text()
    editor.nvim.command("bwipeout!")
    assert "ERROR" not in report
    assert "WARNING" not in report
    assert "runs: fim-server" in report
    assert "ready:" in report


def test_checkhealth_names_a_missing_server(start):
    editor = start(fresh=True, setup=False)
    editor.cmd = ["fim-server-that-is-not-there"]
    editor.setup()
    editor.nvim.command("checkhealth fim")
    assert "ERROR fim-server-that-is-not-there was not found" in editor.text()
    assert "pip install 'fim-server[local]'" in editor.text()


def test_checkhealth_names_a_missing_next_edit_plugin(start):
    editor = start(fresh=True, next_edit="sidekick")
    editor.nvim.command("checkhealth fim")
    assert 'ERROR next_edit is "sidekick", which is not installed' in editor.text()
    editor.lua("package.loaded['sidekick'] = {}")
    editor.nvim.command("checkhealth fim")
    assert "shown by sidekick, which takes our client fim_copilot for its own" in editor.text()


def test_an_invalid_option_is_named(start):
    editor = start(fresh=True, setup=False)
    editor.type(":lua require('fim').setup({ delay = 3 })<CR>")
    assert "fim: delay is unknown; the options are: cmd, delay_ms" in editor.messages()


def test_help_exists(start):
    editor = start()
    tags = editor.folder / "doc" / "tags"
    tags.parent.mkdir()
    shutil.copy(PLUGIN / "doc" / "fim.txt", tags.parent)
    editor.nvim.command(f"helptags {tags.parent} | set runtimepath+={tags.parent.parent}")
    for tag in ("fim", "fim-setup", "fim-keys", ":Fim", "fim-lualine", "fim-next-edit"):
        editor.nvim.command(f"help {tag}")


def test_lualine_component(start):
    editor = showing(start)
    editor.lua("""
      package.loaded['lualine.component'] = { extend = function() return {} end }
    """)
    assert editor.lua("return require('lualine.components.fim').update_status()").startswith("fim ")
    assert editor.lua("return require('lualine.components.fim').update_status()").endswith(" ms")
