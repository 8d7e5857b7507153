"""The real server against 2,000 messages of a misbehaving client (`fuzz.py` sends more)."""

from __future__ import annotations

from pathlib import Path

from fuzz import fuzz
from tiny_checkpoint import write_tiny_checkpoint


async def test_every_request_is_answered_once_and_the_server_survives(tmp_path: Path) -> None:
    model = write_tiny_checkpoint(tmp_path / "model")
    done = await fuzz(2000, seed=0, model=str(model), home=str(tmp_path))
    assert len(done.expected) > 400
    assert min(done.sent.values()) > 20, "every kind of message was sent"
