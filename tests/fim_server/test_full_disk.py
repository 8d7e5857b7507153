"""On a full disk, statistics and the log are lost, but nothing else fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fim_server import log
from fim_server.completion.statistics import Statistics

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_statistics_that_cannot_be_written_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    statistics = Statistics(FULL)
    for _ in range(2):
        statistics.count("requests")
        statistics.flush()
    assert caplog.messages == ["statistics cannot be written (No space left on device)"] * 2


def test_an_unwritable_log_file_is_disabled(
    logging_as_before: None, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", FULL)
    logger = logging.getLogger("fim_server.test")
    for line in ("first", "second"):
        logger.info(line)
    assert not [
        handler for handler in logging.getLogger().handlers if isinstance(handler, log.LogFile)
    ]
    said = capfd.readouterr().err
    assert "first" in said
    assert "second" in said
    assert "Traceback" not in said
