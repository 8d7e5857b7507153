"""No test reads or writes the user's own settings, logs, caches or statistics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_PLACES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("places")
    for name in _PLACES:
        patch.setenv(name, str(home / name.lower()))
    yield
    patch.undo()
