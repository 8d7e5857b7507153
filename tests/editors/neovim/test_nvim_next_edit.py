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


def test_a_multi_line_edit_is_shown_below(editor):
    propose(editor, (0, 0, 7, "a = 1\nb = 2"))
    assert [0, 0, None, "a = 1\nb = 2"] in editor.lua(MARKS)
    accept(editor)
    assert editor.text().startswith("a = 1\nb = 2\nprint(old)")


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
