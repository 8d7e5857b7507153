"""llama.vim in a real Neovim, with the settings that the engine prints for it, against the engine.

llama.vim is not part of this project: FIM_LLAMA_VIM names a clone of github.com/ggml-org/llama.vim.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvim
import pytest
from editor import PATIENCE_S, ROOT, nvim_of

CLONE = os.environ.get("FIM_LLAMA_VIM")
pytestmark = pytest.mark.skipif(
    CLONE is None, reason="FIM_LLAMA_VIM names no clone of github.com/ggml-org/llama.vim"
)
CODE = (
    "def add(first, second):\n    return first + second\n\n\ndef twice(number):\n    return number "
)

GHOST = """
local found = {}
for name, namespace in pairs(vim.api.nvim_get_namespaces()) do
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })) do
    for _, chunk in ipairs(mark[4].virt_text or {}) do
      if chunk[2] == 'llama_hl_fim_hint' then table.insert(found, chunk[1]) end
    end
  end
end
return found[1] or ''
"""


def wait(what: str, found: Callable[[], str]) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while not (text := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return text


@pytest.fixture
def port(runtime: Path, tmp_path: Path) -> Iterator[int]:
    """An engine with the model that ships, on a port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    path = os.pathsep.join(str(ROOT / name) for name in ("", "model", "kernels"))
    home = {f"XDG_{kind}_HOME": str(tmp_path / kind) for kind in ("STATE", "CONFIG", "DATA")}
    env = {**os.environ, **home, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": path}
    command = [sys.executable, "-m", "fim_server", "engine", "--tcp", str(number)]
    log = tmp_path / "engine.log"
    with log.open("wb") as output:
        engine = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        wait("the engine serves", lambda: "x" * ("serving the model" in log.read_text()))
        yield number
    finally:
        engine.terminate()
        engine.wait()


@pytest.mark.parametrize("version", ["0.12", "0.11"])
def test_ghost_text_is_shown_and_accepted(port: int, version: str, tmp_path: Path) -> None:
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            "fim_server",
            "engine",
            "--tcp",
            str(port),
            "--print-config",
            "llama.vim",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / n) for n in ("", "model"))},
        capture_output=True,
        text=True,
        check=True,
    )
    config = tmp_path / "config.vim"
    config.write_text(printed.stdout)
    assert f":{port}/infill" in printed.stdout
    argv = [str(nvim_of(version)), "--embed", "--headless", "--clean", "-n", "-i", "NONE"]
    argv += ["--cmd", f"source {config}", "--cmd", f"set runtimepath^={CLONE}"]
    nvim = pynvim.attach("child", argv=argv)
    try:
        (tmp_path / "code.py").write_text(CODE)
        nvim.command(f"edit {tmp_path / 'code.py'}")
        nvim.command("setlocal noautoindent indentexpr=")
        nvim.input("GA*")
        ghost = wait("llama.vim shows ghost text", lambda: str(nvim.exec_lua(GHOST)))
        nvim.input("<Tab>")
        wait(
            "Tab accepts it",
            lambda: "x" * (nvim.current.buffer[5] == f"    return number *{ghost}"),
        )
        assert re.search(r"\S", ghost)
    finally:
        with contextlib.suppress(OSError, EOFError):
            nvim.command("qall!")
        nvim.close()
