"""Next edits in Neovim, sent as `fim/nextEdit` notifications."""

from __future__ import annotations

import pytest

MARKS = """
local found = {}
local namespace = vim.api.nvim_create_namespace('fim.next_edit')
for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })) do
  local details = mark[4]
  local text = {}
  for _, line in ipairs(details.virt_lines or { details.virt_text }) do
    table.insert(text, line[1][1])
  end
  table.insert(found, { mark[2], mark[3], details.end_col or vim.NIL, table.concat(text, '\\n') })
end
return found
"""

TEXT = "old = 1\nprint(old)\n\nprint('🎉', old)\nlast\n"


@pytest.fixture
def editor(start):
    editor = start()
    editor.open(TEXT)
    editor.ready()
    editor.lua("vim.g.fim_enabled = false")
    return editor


def propose(editor, *edits, version="now", uri=None):
    """Send edits given as (line, from, to, text), columns in the client's encoding."""
    editor.lua(
        """
        local client = require('fim.status').client()
        local uri, version, edits = ...
        if uri == vim.NIL then uri = vim.uri_from_bufnr(0) end
        for _, edit in ipairs(edits) do
          edit.textDocument = { uri = uri, version = version }
          if version == 'now' then
            edit.textDocument.version = vim.lsp.util.buf_versions[vim.api.nvim_get_current_buf()]
          end
        end
        client.handlers['fim/nextEdit'](nil, { edits = edits }, { client_id = client.id })
        """,
        uri,
        version,
        [
            {
                "text": text,
                "range": {
                    "start": {"line": line, "character": begin},
                    "end": {"line": line, "character": end},
                },
            }
            for line, begin, end, text in edits
        ],
    )
    editor.settle()


def propose_hunks(editor, *hunks):
    """Send one edit of several hunks, given as (line, from, end line, to, text)."""
    ranges = [
        {
            "text": text,
            "range": {
                "start": {"line": line, "character": begin},
                "end": {"line": end_line, "character": end},
            },
        }
        for line, begin, end_line, end, text in hunks
    ]
    whole = {"start": ranges[0]["range"]["start"], "end": ranges[-1]["range"]["end"]}
    editor.lua(
        """
        local client = require('fim.status').client()
        local edit = ...
        edit.textDocument = {
          uri = vim.uri_from_bufnr(0),
          version = vim.lsp.util.buf_versions[vim.api.nvim_get_current_buf()],
        }
        client.handlers['fim/nextEdit'](nil, { edits = { edit } }, { client_id = client.id })
        """,
        {"text": "not to be used", "range": whole, "hunks": ranges},
    )
    editor.settle()


def accept(editor):
    result = editor.lua("return require('fim').next_edit()")
    editor.settle()
    return result


def test_edits_are_shown_jumped_to_and_applied_in_turn(editor):
    after_emoji = (
        14 if editor.lua("return require('fim.status').client().offset_encoding") == "utf-8" else 12
    )
    propose(
        editor, (1, 6, 9, "value"), (1, 9, 9, "  # and"), (3, after_emoji, after_emoji + 3, "value")
    )
    assert editor.text() == TEXT.rstrip("\n")
    assert editor.lua(MARKS) == [[1, 6, 9, ""], [1, 9, None, "value"]]
    assert accept(editor) is True
    assert editor.cursor() == (2, 6), "first there"
    assert editor.text() == TEXT.rstrip("\n")
    accept(editor)
    assert editor.line() == "print(value)", "then applied"
    accept(editor)
    assert editor.line() == "print(value  # and)", "its place has moved with the first"
    accept(editor)
    accept(editor)
    assert editor.text().splitlines()[3] == "print('🎉', value)"
    assert accept(editor) is False
    assert editor.lua(MARKS) == []


def test_the_tab_key_takes_edits_in_normal_mode_and_else_does_what_it_did(start):
    editor = start(keys={"tab": "<Tab>"})
    editor.open(TEXT)
    editor.ready()
    editor.type("ggG<C-o>")
    assert editor.cursor() == (1, 0)
    editor.type("<Tab>")
    assert editor.cursor() == (5, 0), "there is no edit: forward in the jump list"
    propose(editor, (1, 6, 9, "value"))
    editor.type("<Tab>")
    assert editor.cursor() == (2, 6), "first there"
    editor.type("<Tab>")
    assert editor.line() == "print(value)", "then applied"


def test_a_multi_line_edit_is_shown_below(editor):
    propose(editor, (0, 0, 7, "a = 1\nb = 2"))
    assert [0, 0, None, "a = 1\nb = 2"] in editor.lua(MARKS)
    accept(editor)
    assert editor.text().startswith("a = 1\nb = 2\nprint(old)")


def test_an_edit_of_several_hunks_is_shown_in_place_and_applied_at_once(editor):
    editor.nvim.current.buffer[:] = ["old = 1", "    keep(old)", "keep", "print(old)", "last"]
    editor.type("gg")
    propose_hunks(
        editor,
        (0, 0, 0, 3, "value"),
        (1, 0, 1, 0, "check(value)\n"),
        (1, 9, 1, 12, "value"),
        (3, 6, 3, 9, "value"),
    )
    shown = editor.lua(MARKS)
    assert sorted(mark[3] for mark in shown if mark[3]) == ["check(value)"] + ["value"] * 3
    assert [mark[:3] for mark in shown if not mark[3]] == [
        [0, 0, 3], [1, 0, 0], [1, 9, 12], [3, 6, 9],
    ], "nothing between the hunks is marked"  # fmt: skip
    assert [mark[0] for mark in shown if mark[3] == "check(value)"] == [0], "where it will be"
    assert accept(editor) is True
    after = "value = 1\ncheck(value)\n    keep(value)\nkeep\nprint(value)\nlast"
    assert editor.text() == after
    assert editor.cursor() == (5, 11), "at the end of the last change"
    assert editor.lua(MARKS) == []
    editor.type("u")
    assert editor.text() == "old = 1\n    keep(old)\nkeep\nprint(old)\nlast", "one step of undo"


def test_the_cursor_is_at_the_end_of_the_last_change(editor):
    propose(editor, (0, 0, 3, "a\nbcd"))
    accept(editor)
    assert editor.text().startswith("a\nbcd = 1\nprint(old)")
    assert editor.cursor() == (2, 3)
    propose(editor, (2, 6, 9, ""))
    accept(editor)
    accept(editor)
    assert editor.cursor() == (3, 6)


def test_line_ends_of_the_file_are_not_text(editor):
    editor.nvim.current.buffer[:] = ["a = 1", "b = 2"]
    editor.lua("vim.bo.fileformat = 'dos'")
    editor.settle()
    propose(editor, (1, 0, 5, "b = 3\r\nc = 4"))
    accept(editor)
    accept(editor)
    assert editor.text() == "a = 1\nb = 3\nc = 4"


def test_a_stale_edit_is_refused(editor):
    propose(editor, (1, 6, 9, "value"), version=10_000)
    assert editor.lua(MARKS) == []
    assert accept(editor) is False


def test_changing_the_text_hides_the_edit(editor):
    propose(editor, (1, 6, 9, "value"))
    editor.type("Gix")
    editor.wait(lambda: editor.lua(MARKS) == [], "gone")
    assert accept(editor) is False


def test_dismissing_rejects_the_edit(editor):
    propose(editor, (1, 6, 9, "value"))
    assert editor.lua("return require('fim').dismiss()") is True
    assert editor.lua(MARKS) == []
    assert accept(editor) is False


def test_accept_jumps_to_an_edit_in_another_file_first(editor):
    other = editor.folder / "other.py"
    other.write_text("import old\n")
    propose(editor, (0, 7, 10, "new"), uri=other.as_uri(), version=None)
    assert other.read_text() == "import old\n"
    accept(editor)
    assert editor.nvim.current.buffer.name == str(other)
    assert editor.line() == "import old"
    accept(editor)
    assert editor.line() == "import new"
    editor.type("u")
    assert editor.line() == "import old"


@pytest.mark.parametrize(
    ("option", "name"), [("sidekick", "fim_copilot"), ("copilot-lsp", "copilot_ls")]
)
def test_other_plugins_recognise_the_client(start, tmp_path, option, name):
    # copilot-lsp ships options for its own server.
    theirs = tmp_path / "lsp" / "copilot_ls.lua"
    theirs.parent.mkdir()
    theirs.write_text("return { cmd = { 'other' }, init_options = { editorInfo = {} } }")
    editor = start(fresh=True, setup=False)
    editor.nvim.command(f"set runtimepath+={tmp_path}")
    editor.setup(next_edit=option, server={"maxLines": 3})
    editor.open("#say value")
    editor.ready()
    assert editor.lua("return require('fim.status').client().name") == name
    params = editor.sent("initialize")[0]["params"]
    assert params["initializationOptions"] == {"maxLines": 3}
    if option == "copilot-lsp":  # it counts in UTF-16, whatever was negotiated
        assert params["capabilities"]["general"]["positionEncodings"] == ["utf-16"]
    propose(editor, (0, 0, 1, "x"))
    assert editor.lua(MARKS) == [], "it is theirs to show"
    editor.type("A")
    editor.wait_for_ghost("value")
