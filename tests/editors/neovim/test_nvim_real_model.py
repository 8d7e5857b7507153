"""End to end: Neovim, the real server, the model that ships.

The quality of the suggestions is not tested, only that Neovim shows and inserts what the server
answered.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
from editor import PATIENCE_S, REAL, ROOT, engines_in

CODE = '''\
def add(first, second):
    """The sum of two numbers."""
    return first + second


def subtract(first, second):
    """The difference of two numbers."""
    return first - second


class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

'''

# Tried in turn until the model suggests something.
LINES = [
    "    def deposit(self, amount):\n        self.balance",
    "    def withdraw(self, amount):\n        if amount > self.",
    "    def name(self):\n        return ",
    "    def twice(self):\n        return self.balance * ",
    "    for item in ",
]

ASKING = "textDocument/inlineCompletion"
ROUNDS = int(os.environ.get("FIM_LATENCY_ROUNDS", "2"))
"""How often each of them is measured: more for the figures in docs/benchmarks.md."""


@pytest.fixture
def editor(start, checkpoint):
    editor = start(REAL, fresh=True, server={"model": checkpoint, "threads": 1, "minConfidence": 0})
    editor.nvim.command("set noautoindent indentexpr= indentkeys=")
    editor.nvim.command("autocmd FileType python setlocal indentexpr= noautoindent")
    editor.open(CODE)
    editor.ready()
    return editor


def ask(editor):
    """Type until the server suggests something; return the text and the suggestion.

    Retries, because answers are empty while the model loads and sometimes afterwards.
    """
    deadline = time.monotonic() + 2 * PATIENCE_S
    for line in itertools.cycle(LINES):
        count = len(editor.answers())
        editor.type("<Esc>Go<C-u>" + line.replace("\n", "<CR><C-u>"))
        wait_for_answer(editor, count)
        if editor.answers()[-1]:
            return editor.text(), editor.wait_for_ghost().text
        editor.lua("vim.wait(300)")
        assert time.monotonic() < deadline, f"the model had nothing to say to any of {LINES}"
    raise AssertionError("an endless cycle has ended")


def wait_for_answer(editor, count: int) -> None:
    editor.wait(lambda: len(editor.answers()) > count and not busy(editor), "an answer")


def busy(editor) -> bool:
    return editor.lua("return require('fim.status').get().state") == "busy"


def test_type_accept_and_undo(editor):
    before, ghost = ask(editor)
    assert ghost.replace("\t", "    ") == editor.answers()[-1][0].replace("\t", "    ")
    answer = editor.answers()[-1][0]
    editor.lua("require('fim').accept()")
    editor.wait(lambda: editor.text() == before + answer, "exactly what was answered")
    editor.type("<Esc>u")
    assert editor.text() == before


def test_accept_word_by_word_then_type_through(editor):
    before, _ = ask(editor)
    answer = editor.answers()[-1][0]
    editor.lua("require('fim').accept_word()")
    editor.wait(lambda: editor.text() != before, "a word")
    word = editor.text()[len(before) :]
    assert answer.startswith(word)
    while rest := answer[len(editor.text()) - len(before) :]:
        assert editor.ghost().text == rest
        editor.nvim.input(rest[0] if rest[0] != "<" else "<lt>")
        editor.settle()
    assert editor.text() == before + answer


def test_alternatives(editor):
    ask(editor)
    asked = len(editor.answers())
    assert editor.lua("return require('fim').next()") is True
    editor.wait(lambda: len(editor.answers()) > asked and not busy(editor), "alternatives")
    first, *others = editor.answers()[-1]
    if others:
        assert editor.wait_for_ghost(others[0]).hint == f"(2/{len(others) + 1})"
    else:
        assert editor.ghost().text == first
        assert "no other" in editor.why()


def test_a_killed_server_is_restarted(editor):
    first = editor.server_pid()
    os.kill(first, signal.SIGKILL)
    editor.wait(lambda: editor.server_pid() != first, "another server")
    editor.clean()
    editor.open(CODE)
    editor.ready()
    before, _ = ask(editor)
    answer = editor.answers()[-1][0]
    editor.lua("require('fim').accept()")
    editor.wait(lambda: editor.text() == before + answer, "accepted")


def test_a_killed_engine_is_restarted(editor, runtime):
    ask(editor)
    engines = engines_in(runtime)
    assert engines
    for pid in engines:
        os.kill(pid, signal.SIGKILL)
    server = editor.server_pid()
    editor.wait(lambda: not set(engines) & set(engines_in(runtime)), "its end")
    asked = len(editor.answers())

    def answered() -> bool:
        editor.type("<Esc>Go<C-u>    for item in ")
        editor.lua("vim.wait(1000)")
        return any(editor.answers()[asked:])

    editor.wait(answered, "an answer from another engine")
    assert editor.server_pid() == server, "the editor's own server has stayed"


def test_keystroke_to_ghost_text(editor, request, checkpoint):
    """Time from the key's arrival in Neovim to the extmark, in .cache/neovim/latency-*.json.

    Includes the debounce: Neovim's fixed 200 ms (native) or the plugin's `delay_ms` (extmark).
    """
    ask(editor)
    editor.lua("""
      local took, pressed = {}, nil
      local function visible()
        for _, name in ipairs({ 'nvim.lsp.inline_completion', 'fim.ghost' }) do
          local namespace = vim.api.nvim_create_namespace(name)
          if #vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, {}) > 0 then return true end
        end
      end
      vim.on_key(function(_, typed)
        if typed ~= '' then pressed = not visible() and vim.uv.hrtime() or nil end
      end)
      vim.uv.new_timer():start(0, 1, vim.schedule_wrap(function()
        if pressed and visible() then
          table.insert(took, (vim.uv.hrtime() - pressed) / 1e6)
          pressed = nil
        end
      end))
      _G.fim_test_took = took
    """)
    began = len(editor.traffic())
    for _ in range(ROUNDS):
        for line in LINES:
            count = len(editor.answers())
            editor.type("<Esc>S<C-u>" + line.rpartition("\n")[2])
            wait_for_answer(editor, count)
    took = editor.lua("return _G.fim_test_took")
    assert took, "the model had nothing to say"
    version, display = request.node.callspec.params["start"].split("-")
    figures = {
        "editor": f"Neovim {version}",
        "display": display,
        "fixed_delay_ms": 200 if display == "native" else 75,
        "model": Path(checkpoint).name,
        "samples": len(took),
        "key_to_ghost_ms": percentiles(took),
        "server_ms": percentiles(answer_times(editor, began)),
    }
    out = ROOT / ".cache" / "neovim" / f"latency-{version}-{display}.json"
    out.write_text(json.dumps(figures, indent=2) + "\n")


def answer_times(editor, began: int) -> list[float]:
    """Server time of each non-empty answer, in ms."""
    asked: dict[object, float] = {}
    took = []
    for entry in editor.traffic()[began:]:
        message = entry["message"]
        if message.get("method") == ASKING:
            asked[message["id"]] = entry["at"]
        elif message.get("id") in asked and (message.get("result") or {}).get("items"):
            took.append(1000 * (entry["at"] - asked[message["id"]]))
    return took


def percentiles(values: list[float]) -> dict[str, int]:
    ranked = sorted(values)
    return {
        f"p{share}": round(ranked[math.ceil(share / 100 * len(ranked)) - 1]) for share in (50, 95)
    }
