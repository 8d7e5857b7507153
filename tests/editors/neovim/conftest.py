"""Fixtures: every test runs in each installed Neovim, with each display that it supports."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from editor import ROOT, SCRIPTED, Editor, engines_in, nvim_of

Start = Callable[..., Editor]


@pytest.fixture(scope="session")
def runtime() -> Iterator[Path]:
    """Private runtime folder for the engines' sockets; its path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="fim-"))
    yield folder
    for pid in engines_in(folder):
        os.kill(pid, signal.SIGTERM)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Editor]]:
    """Editors shared between tests, because starting a server for each test takes minutes."""
    editors: dict[str, Editor] = {}
    yield editors
    for editor in editors.values():
        editor.close()


@pytest.fixture(params=["0.12-native", "0.12-extmark", "0.11-extmark"])
def start(
    request: pytest.FixtureRequest, tmp_path: Path, pool: dict[str, Editor], runtime: Path
) -> Iterator[Start]:
    """Return a function that starts Neovim with the plugin and the server, and no file open.

    fresh: start a new process, for tests whose changes cannot be undone. setup: False leaves the
    plugin on the runtimepath without calling its `setup`.
    """
    version, display = request.param.split("-")
    own: list[Editor] = []

    def begin(
        command: list[str] = SCRIPTED, fresh: bool = False, setup: bool = True, **options: Any
    ) -> Editor:
        if not fresh and not options and command == SCRIPTED:
            if request.param not in pool:
                pool[request.param] = ready_editor(tmp_path, command, setup, options)
            pool[request.param].clean()
            return pool[request.param]
        own.append(ready_editor(tmp_path, command, setup, options))
        return own[-1]

    def ready_editor(
        folder: Path, command: list[str], setup: bool, options: dict[str, Any]
    ) -> Editor:
        place = folder / str(len(own))
        place.mkdir()
        editor = Editor(nvim_of(version), place, runtime, command)
        if setup:
            # Use the default 'auto' where it selects the display under test.
            usual = "native" if version == "0.12" else "extmark"
            if command == SCRIPTED:  # the tests send next edits, not the script
                options = {**options, "server": {"nextEdits": False, **options.get("server", {})}}
            editor.setup(display="auto" if display == usual else display, **options)
        return editor

    yield begin
    for editor in own:
        editor.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model that ships, or a snapshot of its checkpoint while it is being trained."""
    default = ROOT / "model" / "fim_model" / "checkpoints" / "default"
    training = ROOT / "runs" / "default" / "checkpoint"
    if (default / "config.json").exists():
        return str(default)
    if not (training / "config.json").exists():
        raise RuntimeError(f"no default model: neither {default} nor {training} is there")
    copy = tmp_path_factory.mktemp("model") / "checkpoint"
    shutil.copytree(training, copy)
    return str(copy)
