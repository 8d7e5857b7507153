"""What must be settled before any test module is imported; and nobody's own files are touched."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What several rooms' tests use is importable by name.
sys.path.append(str(Path(__file__).parent / "support"))

# Triton decides at import whether it compiles or interprets, and transformers imports it. Without
# a GPU the kernels are interpreted; with one, and TRITON_INTERPRET unset, they run natively.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

_PLACES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own settings, logs, caches or statistics."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("places")
    for name in _PLACES:
        patch.setenv(name, str(home / name.lower()))
    yield
    patch.undo()
