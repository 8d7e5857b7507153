"""Import setup, the marker `slow`, and isolation from the user's files."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

# Helpers shared by the tests of several rooms are importable by name.
sys.path.append(str(TESTS / "support"))

# Triton reads TRITON_INTERPRET at import, and transformers imports it. Without a GPU kernels are
# interpreted; with one they run natively unless the variable is set.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

_PLACES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")


@pytest.hookimpl(tryfirst=True)  # before pytest applies -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from slow_tests import is_slow

    for item in items:
        if is_slow(PurePosixPath(item.path.relative_to(TESTS).as_posix())):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests away from the user's settings, logs, caches and statistics."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("places")
    for name in _PLACES:
        patch.setenv(name, str(home / name.lower()))
    yield
    patch.undo()
