"""Drive a real headless Neovim: send keys, and read what its screen shows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pynvim

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "editors" / "neovim"
HERE = Path(__file__).parent
PATIENCE_S = 300
T = TypeVar("T")

REAL = [sys.executable, "-m", "fim_server", "lsp"]
SCRIPTED = [sys.executable, str(ROOT / "tests" / "support" / "scripted.py")]
"""The real server, with a backend that answers what the text left of the cursor tells it to."""

GHOST = """
local parts = {}
for _, name in ipairs({ 'nvim.lsp.inline_completion', 'fim.ghost' }) do
  local namespace = vim.api.nvim_create_namespace(name)
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })) do
    local ghost, hint = {}, vim.NIL
    local lines = { mark[4].virt_text or {} }
    vim.list_extend(lines, mark[4].virt_lines or {})
    for _, line in ipairs(lines) do
      local text = ''
      for _, chunk in ipairs(line) do
        if chunk[2] == 'ComplHintMore' or chunk[2] == 'FimGhostMore' then
          hint = vim.trim(chunk[1])
        else
          text = text .. chunk[1]
        end
      end
      table.insert(ghost, text)
    end
    table.insert(parts, { mark[2], mark[3], table.concat(ghost, '\\n'), hint, name })
  end
end
return parts
"""


@dataclass(frozen=True)
class Ghost:
    """Ghost text as stored in its extmark; line and byte column count from 0."""

    row: int
    col: int
    text: str
    hint: str | None
    namespace: str


class Editor:
    """A Neovim process with the plugin on its runtimepath, and its traffic with the server."""

    def __init__(self, nvim: Path, folder: Path, runtime: Path, server: list[str]) -> None:
        self.folder = folder
        self.log = folder / "lsp.jsonl"
        self.log.touch()
        self.seen = 0
        self.cmd = [sys.executable, str(HERE / "tee.py"), str(self.log), *server]
        path = os.pathsep.join([str(ROOT), str(ROOT / "model"), str(ROOT / "kernels")])
        environment = [
            f"XDG_RUNTIME_DIR={runtime}",
            f"XDG_STATE_HOME={folder / 'state'}",
            f"XDG_CONFIG_HOME={folder / 'config'}",
            f"PYTHONPATH={path}",
            "OMP_NUM_THREADS=1",
        ]
        argv = [
            "env",
            *environment,
            str(nvim),
            "--embed",
            "--headless",
            "--clean",
            "-n",
            "-i",
            "NONE",
        ]
        argv += ["--cmd", f"set runtimepath^={PLUGIN}"]
        self.nvim = pynvim.attach("child", argv=argv)

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # Neovim exits and closes the connection
            self.nvim.command("qall!")
        self.nvim.close()

    def clean(self) -> None:
        """Close all files, clear the recorded messages, and reset all options."""
        self.type("<Esc><Esc>")
        self.nvim.command("silent! mapclear! | silent! %bwipeout!")
        self.lua("vim.g.fim_enabled = nil; vim.b.fim_enabled = nil")
        self.seen = len(self.log.read_text().splitlines())

    # Input.

    def lua(self, code: str, *arguments: Any) -> Any:
        return self.nvim.exec_lua(code, *arguments)

    def setup(self, **options: Any) -> None:
        """Call the plugin's `setup` with this server and only the options that the test names."""
        self.lua("require('fim').setup(...)", {"cmd": self.cmd, **options})

    def open(self, text: str, name: str = "code.py") -> None:
        """Open a file and wait until the server has received it."""
        path = self.folder / name
        path.write_text(text)
        self.nvim.command(f"edit {path}")
        self.wait(lambda: self.sent("textDocument/didOpen"), "the server gets the file")

    def ready(self) -> None:
        """Wait until the server's model is loaded."""
        self.wait(lambda: self.lua("return require('fim.status').get().state") == "ready", "ready")

    def type(self, keys: str) -> None:
        """Send keys in the notation of |nvim_input()| and wait until all are processed."""
        self.nvim.input(keys)
        self.settle()

    def settle(self) -> None:
        """Run scheduled callbacks: two turns of Neovim's event loop."""
        for _ in range(2):
            self.lua("vim.wait(5)")

    # Output.

    def line(self) -> str:
        return str(self.nvim.current.line)

    def text(self) -> str:
        return "\n".join(self.nvim.current.buffer[:])

    def cursor(self) -> tuple[int, int]:
        """Line counted from 1, byte column from 0."""
        row, col = self.nvim.current.window.cursor
        return row, col

    def ghost(self) -> Ghost | None:
        """The ghost text on the screen; fails if there is more than one."""
        found = [Ghost(*part) for part in self.lua(GHOST)]
        shown = [ghost for ghost in found if ghost.text]
        assert len(shown) <= 1, shown
        return shown[0] if shown else None

    def screen(self, row: int) -> str:
        """What the screen shows in a row, from 1, without blanks at its end."""
        code = """
        vim.cmd.redraw()
        local cells = {}
        for column = 1, vim.o.columns do
          cells[column] = vim.fn.screenstring(..., column)
        end
        return table.concat(cells)
        """
        return str(self.lua(code, row)).rstrip()

    def wait_for_ghost(self, text: str | None = None) -> Ghost:
        """Wait for this ghost text. The plugin's own display expands tabs to spaces."""

        def seen() -> Ghost | None:
            ghost = self.ghost()
            return ghost if ghost and text in (None, ghost.text) else None

        return self.wait(seen, f"ghost text {text!r}")

    def wait_for_no_ghost(self) -> None:
        self.wait(lambda: self.ghost() is None, "no ghost text")

    def why(self) -> str:
        return str(self.lua("return require('fim.status').get().why or ''"))

    def messages(self) -> str:
        return str(self.nvim.command_output("messages"))

    def wait(self, there: Callable[[], T | None], what: str) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := there():
                return found
            time.sleep(0.01)
        raise AssertionError(
            f"waited {PATIENCE_S} s for: {what}\nbuffer: {self.text()!r}\nghost: {self.ghost()}\n"
            f"why: {self.why()}\nmessages: {self.messages()}\nlast of the server: "
            f"{self.traffic()[-3:]}"
        )

    # Messages between the editor and the server.

    def traffic(self) -> list[dict[str, Any]]:
        """All messages since `clean`."""
        lines = self.log.read_text().splitlines()[self.seen :]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def sent(self, method: str) -> list[dict[str, Any]]:
        """The editor's messages with this method."""
        messages = [entry["message"] for entry in self.traffic() if entry["from"] == "editor"]
        return [message for message in messages if message.get("method") == method]

    def answers(self) -> list[list[str]]:
        """The texts of each answered inline completion, in the order of the answers."""
        asked = {message["id"] for message in self.sent("textDocument/inlineCompletion")}
        said = [entry["message"] for entry in self.traffic() if entry["from"] == "server"]
        return [
            [item["insertText"] for item in message["result"]["items"]]
            for message in said
            if message.get("id") in asked and "result" in message
        ]

    def server_pid(self) -> int:
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return int([entry["message"]["pid"] for entry in entries if entry["from"] == "tee"][-1])


def engines_in(runtime: Path) -> list[int]:
    """Process ids of the engines whose sockets are in the tests' private folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().split(b"\0")
            if b"engine" in words and f"XDG_RUNTIME_DIR={runtime}".encode() in variables:
                found.append(int(process.name))
    return found


def nvim_of(version: str) -> Path:
    """Path of the Neovim that scripts/setup-neovim installs; the error names the script."""
    path = ROOT / ".cache" / "neovim" / version / "bin" / "nvim"
    said = (
        subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        if path.exists()
        else ""
    )
    if not said.startswith(f"NVIM v{version}."):
        raise RuntimeError(f"Neovim {version} is not set up; run: scripts/setup-neovim")
    return path
