"""Unit tests of the plugin in Lua, run by each Neovim without a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from editor import PLUGIN, nvim_of

UNITS = sorted((Path(__file__).parent / "unit").glob("*.lua"))


@pytest.mark.parametrize("version", ["0.12", "0.11"])
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit(unit: Path, version: str) -> None:
    command = [nvim_of(version), "--clean", "--cmd", f"set runtimepath^={PLUGIN}", "-l", unit]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
