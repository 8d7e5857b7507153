"""The real server against a remote server's odd answers (`fuzz_remote.py` asks for more)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_remote import fuzz_remote


@pytest.mark.parametrize("seed", [0, 1])
async def test_odd_answers_are_shown_balanced_or_have_a_reason(tmp_path: Path, seed: int) -> None:
    seen = await fuzz_remote(200, seed, str(tmp_path))
    assert min(seen["shown"], seen["failed, with a reason"], seen["silent"]) > 20, seen
