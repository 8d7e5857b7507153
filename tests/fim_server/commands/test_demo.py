"""`make demo` cuts text from source files of this repository, which must still contain it."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "scripts" / "demo.py"


def test_every_gap_of_the_demo_is_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    demo = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", demo)  # dataclasses look their module up
    spec.loader.exec_module(demo)
    for gap in demo.GAPS:
        snapshot, position = demo.open_gap(gap)
        before = snapshot.lines[position.line][: position.character]
        assert before.endswith(gap.kept)
