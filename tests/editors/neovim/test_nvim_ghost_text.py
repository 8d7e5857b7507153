"""Ghost text, key by key: the real server with a scripted backend."""

from __future__ import annotations

ASKING = "textDocument/inlineCompletion"


def shown(start, text: str, after: str = "", **options):
    """An editor that shows `text` after the line that requests it, before `after`."""
    editor = start(**options)
    editor.open("x = 1\n")
    editor.ready()
    asking = "#say " + text.replace("\n", "\\n")
    editor.nvim.current.buffer[:] = ["x = 1", asking + after]
    editor.nvim.current.window.cursor = (2, 0)
    editor.type("0" + f"{len(asking)}li" if after else "A")
    editor.wait_for_ghost(text)
    return editor, "x = 1\n" + asking


def fim(editor, call: str):
    result = editor.lua(f"return require('fim').{call}()")
    editor.settle()
    return result


def test_shows_and_accepts_the_servers_answer(start):
    editor, before = shown(start, "return a\n    b")
    ghost = editor.ghost()
    assert ghost.text == editor.answers()[-1][0]
    assert (ghost.row, ghost.col) == (1, len(editor.line()))
    assert fim(editor, "accept") is True
    editor.wait(lambda: editor.text() == before + "return a\n    b", "accepted")
    assert editor.cursor() == (3, len("    b"))


def test_text_right_of_the_cursor_stays_right_of_it(start):
    editor, before = shown(start, "first, second", after=")")
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == before + "first, second)", "accepted")
    assert editor.line()[editor.cursor()[1] :] == ")"


def test_an_item_takes_the_place_of_a_closing_bracket(start):
    editor, before = shown(start, "self, x):", after=")")
    row = editor.nvim.current.window.cursor[0]
    assert editor.screen(row) == editor.line()[:-1] + "self, x):", "the bracket once"
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == before + "self, x):", "accepted")
    assert editor.line()[editor.cursor()[1] :] == ""


def test_words_of_an_item_take_the_place_of_a_closing_bracket(start):
    editor, before = shown(start, "x) -> a:", after=")")
    for sofar, after in [("x", ")"), ("x)", ""), ("x) ->", ""), ("x) -> a", ""), ("x) -> a:", "")]:
        assert fim(editor, "accept_word") is True
        text = before + sofar + after
        editor.wait(lambda text=text: editor.text() == text, text)
        shown_line = before.rpartition("\n")[2] + "x) -> a:"
        editor.wait(lambda line=shown_line: editor.screen(2) == line, "the rest on the screen")


def test_braces_become_a_block(start):
    editor = start()
    editor.open("x = 1\n")
    editor.ready()
    line = r"#say \n  b\n  {"
    editor.nvim.current.buffer[:] = ["x = 1", line + "}"]
    editor.nvim.current.window.cursor = (2, 0)
    editor.type("0" + f"{len(line)}li")
    editor.wait_for_ghost("\n  b\n")
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == f"x = 1\n{line}\n  b\n}}", "accepted")


def test_word_after_word(start):
    editor, before = shown(start, "naïve(x)\n  end")
    for sofar, rest in [("naïve", "(x)\n  end"), ("naïve(", "x)\n  end"), ("naïve(x", ")\n  end")]:
        assert fim(editor, "accept_word") is True
        editor.wait(lambda sofar=sofar: editor.text() == before + sofar, sofar)
        editor.wait_for_ghost(rest)
    fim(editor, "accept_word")
    editor.wait_for_ghost("\n  end")
    fim(editor, "accept_word")
    editor.wait(lambda: editor.text() == before + "naïve(x)\n  end", "the last word")
    assert len(editor.answers()) == 1, "the rest is shown without asking again"


def test_line_after_line(start):
    editor, before = shown(start, "one two\n  three\nfour")
    for sofar in ["one two", "one two\n  three", "one two\n  three\nfour"]:
        assert fim(editor, "accept_line") is True
        editor.wait(lambda sofar=sofar: editor.text() == before + sofar, sofar)


def test_type_through_keeps_the_suggestion_without_a_request(start):
    editor, before = shown(start, "return value")
    asked = len(editor.sent(ASKING))
    for number, key in enumerate("return"):
        editor.type(key)
        assert editor.ghost().text == "return value"[number + 1 :]
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == before + "return value", "no letter twice")
    requests = editor.sent(ASKING)[asked:]
    typed_through = [request["params"]["position"]["character"] for request in requests]
    end = len(before.splitlines()[-1])
    assert not [column for column in typed_through if end < column < end + len("return value")]


def test_type_through_keeps_the_suggestion_as_the_editor_closes_a_bracket(start):
    editor, before = shown(start, "(a, b)")
    editor.nvim.command("inoremap ( ()<Left>")
    editor.nvim.input("(")
    editor.wait_for_ghost("a, b")
    assert editor.text() == before + "()"
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == before + "(a, b)", "one bracket")


def test_accepting_before_any_refresh_duplicates_nothing(start):
    """Neovim 0.12.4 alone would insert `return valuere`."""
    editor, before = shown(start, "return value")
    editor.nvim.input("re<Cmd>lua require('fim').accept()<CR>")
    editor.wait(
        lambda: "value" in editor.text().splitlines()[-1][len("#say return value") :], "accepted"
    )
    assert editor.text() == before + "return value"


def test_backspace_restores_the_suggestion(start):
    editor, _ = shown(start, "return value")
    editor.type("ret")
    editor.wait_for_ghost("urn value")
    editor.type("<BS>")
    editor.wait_for_ghost("turn value")


def test_a_diverging_letter_hides_the_suggestion_at_once(start):
    editor, _ = shown(start, "return value")
    editor.type("z")
    ghost = editor.ghost()
    assert ghost is None or "return value" not in ghost.text


def test_alternatives_are_requested_and_cycled(start):
    editor, before = shown(start, "value")
    assert fim(editor, "next") is True
    ghost = editor.wait_for_ghost("value 2")
    assert ghost.hint == "(2/3)"
    assert editor.answers()[-1] == ["value", "value 2", "value 3"]
    assert editor.sent(ASKING)[-1]["params"]["context"]["triggerKind"] == 1
    fim(editor, "next")
    editor.wait_for_ghost("value 3")
    fim(editor, "next")
    editor.wait_for_ghost("value")
    fim(editor, "previous")
    editor.wait_for_ghost("value 3")
    editor.type("value")
    assert editor.wait_for_ghost(" 3").hint == "(2/2)"
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == before + "value 3", "the one that was shown")


def test_accepting_is_one_undo_step(start):
    editor, before = shown(start, "one\n  two\nthree")
    fim(editor, "accept")
    editor.wait(lambda: editor.text().endswith("three"), "accepted")
    editor.type("four<Esc>")
    assert editor.text() == before + "one\n  two\nthreefour"
    editor.type("u")
    assert editor.text() == before + "one\n  two\nthree"
    editor.type("u")
    assert editor.text() == before
    editor.type("<C-r><C-r>")
    assert editor.text() == before + "one\n  two\nthreefour"


def test_a_dismissed_suggestion_stays_hidden_until_a_change(start):
    editor, _ = shown(start, "value")
    assert fim(editor, "dismiss") is True
    assert editor.ghost() is None
    assert fim(editor, "dismiss") is False
    assert fim(editor, "accept") is False
    editor.lua("vim.wait(500)")
    assert editor.ghost() is None
    assert "dismissed" in editor.why()
    editor.type("<Space>")
    editor.wait_for_ghost()


def test_leaving_insert_mode_hides_the_suggestion(start):
    editor, before = shown(start, "value")
    editor.type("<Esc>")
    editor.wait_for_no_ghost()
    assert fim(editor, "accept") is False
    assert editor.text() == before


def test_switching_off_and_on(start):
    editor, _ = shown(start, "value")
    assert fim(editor, "toggle") is False
    editor.wait_for_no_ghost()
    asked = len(editor.sent(ASKING))
    editor.type("<Space>")
    editor.lua("vim.wait(500)")
    assert len(editor.sent(ASKING)) == asked
    assert editor.lua("return require('fim.status').get().state") == "paused"
    assert "switched off" in editor.lua("return require('fim.status').get().message")
    assert fim(editor, "toggle") is True
    editor.type("<Space>")
    editor.wait_for_ghost()


def test_a_stale_answer_is_not_shown_and_the_request_is_cancelled(start):
    editor = start()
    editor.open("x = 1\n")
    editor.ready()
    editor.type("o#wait")
    editor.wait(lambda: editor.sent(ASKING), "asked")
    waiting = editor.sent(ASKING)[-1]["id"]
    editor.type("<Esc>cc#say done")
    editor.wait_for_ghost("done")
    cancelled = [message["params"]["id"] for message in editor.sent("$/cancelRequest")]
    assert waiting in cancelled


def test_trigger_requests_a_suggestion_without_delay(start):
    editor = start(delay_ms=100_000)
    editor.open("#say value")
    editor.ready()
    editor.type("A")
    fim(editor, "trigger")
    editor.wait(lambda: ["value", "value 2", "value 3"] in editor.answers(), "asked by key")
    editor.wait_for_ghost("value")


def test_tabs_and_wide_characters(start):
    editor = start()
    editor.open("#say if 日本:\\n\tpass 🎉")
    editor.ready()
    editor.nvim.command("setlocal tabstop=6")
    editor.type("A")
    ghost = editor.wait_for_ghost()
    indent = "\t" if ghost.namespace.startswith("nvim") else " " * 6
    assert ghost.text == f"if 日本:\n{indent}pass 🎉"
    before = editor.text()
    fim(editor, "accept_line")
    editor.wait_for_ghost()
    fim(editor, "accept")
    editor.wait(lambda: editor.text() == before + "if 日本:\n\tpass 🎉", "accepted")
