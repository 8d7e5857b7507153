"""Searches for edits have 300 ms of CPU time, and so have they in these tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def only_what_these_tests_made_is_collected() -> Iterator[None]:
    """The garbage collector leaves alone what thousands of tests before have made: going through
    that would take all of a search's time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
