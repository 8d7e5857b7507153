"""Every test here runs in each Neovim, with each way of drawing that it has."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from editor import ROOT, Editor, nvim_of  # noqa: E402

REAL = [sys.executable, "-m", "fim_server", "lsp"]
SCRIPTED = [sys.executable, str(ROOT / "tests" / "server" / "scripted.py")]
"""The real server, with a backend that answers what the text left of the cursor tells it to."""

Start = Callable[..., Editor]


@pytest.fixture(params=["0.12-native", "0.12-extmark", "0.11-extmark"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts a Neovim with the plugin set up; it ends with the test."""
    version, display = request.param.split("-")
    editors: list[Editor] = []

    def begin(server: list[str] = SCRIPTED, setup: bool = True, **options: Any) -> Editor:
        folder = tmp_path / str(len(editors))
        folder.mkdir()
        editors.append(Editor(nvim_of(version), folder, server))
        if setup:
            # 'auto' is what a user gets, where it is the display under test.
            usual = "native" if version == "0.12" else "extmark"
            editors[-1].setup(display="auto" if display == usual else display, **options)
        return editors[-1]

    yield begin
    for editor in editors:
        editor.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model that ships; while it is in training, a copy of its checkpoint of now."""
    default = ROOT / "model" / "fim_model" / "checkpoints" / "default"
    training = ROOT / "runs" / "default" / "checkpoint"
    if (default / "config.json").exists():
        return str(default)
    if not (training / "config.json").exists():
        raise RuntimeError(f"no default model: neither {default} nor {training} is there")
    copy = tmp_path_factory.mktemp("model") / "checkpoint"
    shutil.copytree(training, copy)
    return str(copy)
